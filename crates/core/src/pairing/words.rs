//! The 1024 words of pairing codes, and how a typed word finds its entry.
//!
//! Two words carry 20 bits, what a live exchange with one try per code needs. The list is made for being read out over a
//! bad phone line and typed on a small keyboard: everyday English words of three to seven letters, no word beginning
//! another, no two sharing their first four letters (so four letters always suffice), no two that sound alike, none
//! whose spelling a listener must ask for, and none that anybody would mind reading aloud.
//!
//! The list is part of protocol version 1: changing a word changes what an older device understands, because a code's
//! secret is the text of its words. Sorted, so that lookup is a binary search; a test keeps every rule above that a
//! machine can check.

/// Letters that always single out a word.
pub(super) const PREFIX_LETTERS: usize = 4;

/// Finds the word that `typed` (lower case) means: the whole word, or its first four or more letters.
pub(super) fn find(typed: &str) -> Option<&'static str> {
    let at = WORDS.partition_point(|word| *word < typed);
    let word = WORDS.get(at)?;
    let long_enough = typed.len() >= PREFIX_LETTERS && word.starts_with(typed);
    (*word == typed || long_enough).then_some(*word)
}

/// The word that `typed` begins, or else the one that looks most like it, within two slips of the finger.
pub(super) fn nearest(typed: &str) -> Option<&'static str> {
    let begun = WORDS.iter().find(|word| typed.len() > 1 && word.starts_with(typed));
    if begun.is_some() {
        return begun.copied();
    }
    let (word, slips) =
        WORDS.iter().map(|word| (*word, slips(word, typed))).min_by_key(|(_, slips)| *slips)?;
    (slips <= 2).then_some(word)
}

/// The Levenshtein distance: how many letters must be added, removed or replaced to get from one word to the other.
fn slips(word: &str, typed: &str) -> usize {
    // One row of the usual table; `typed` was cut to a short length by the caller, so this stays tiny.
    let typed: Vec<char> = typed.chars().collect();
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (i, w) in word.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, t) in typed.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX - 1);
            let cost = (diagonal + usize::from(w != *t)).min(above + 1).min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            left = cost;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The list, in alphabetical order.
#[rustfmt::skip]
pub(super) static WORDS: [&str; 1024] = [
    "acid", "acorn", "acre", "actor", "admiral", "airport", "alarm", "album", "alert", "algae", "alley",
    "almond", "alpine", "amber", "anchor", "angel", "animal", "ankle", "antenna", "anvil", "apple", "apron",
    "arch", "arctic", "arena", "arrow", "artist", "ash", "atlas", "atom", "attic", "auburn", "autumn",
    "avenue", "avocado", "azure", "bacon", "badge", "bagel", "bakery", "balcony", "balloon", "bamboo",
    "banana", "banner", "basil", "basket", "beacon", "beard", "beaver", "bed", "beetle", "bench", "bicycle",
    "bingo", "biscuit", "bison", "blanket", "blaze", "blender", "blink", "bloom", "blossom", "blouse",
    "blue", "boat", "bobcat", "bolt", "bonfire", "book", "boot", "bottle", "bouquet", "box", "bracket",
    "brain", "branch", "brass", "brave", "breeze", "brick", "bridge", "bright", "bronze", "broom",
    "brother", "brush", "bubble", "bucket", "buffalo", "bugle", "bundle", "bunny", "burger", "bus", "buzz",
    "cabbage", "cabin", "cable", "cactus", "cafe", "cage", "cake", "calm", "camel", "camp", "canal",
    "candle", "canoe", "canyon", "captain", "caramel", "carbon", "card", "cargo", "carpet", "cartoon",
    "carve", "castle", "cat", "cavern", "cedar", "celery", "century", "chain", "chalk", "chapel", "charm",
    "cheese", "cherry", "chess", "chicken", "chimney", "chisel", "chorus", "church", "cider", "cinema",
    "circus", "citrus", "city", "clean", "cliff", "clinic", "clip", "clock", "cloth", "cloud", "clover",
    "clown", "club", "coach", "coast", "coat", "cobalt", "cobra", "cocoa", "coffee", "coil", "coin",
    "collar", "column", "comb", "comet", "comfort", "comic", "compass", "concert", "cookie", "copper",
    "copy", "coral", "corner", "cosmic", "cottage", "couch", "cougar", "cousin", "cowboy", "coyote", "crab",
    "cradle", "craft", "crane", "crater", "crayon", "cream", "cricket", "crimson", "cross", "crown",
    "crumb", "crystal", "cube", "cuckoo", "culture", "cup", "curtain", "curve", "cushion", "dairy", "daisy",
    "dance", "dash", "dawn", "delta", "denim", "dentist", "desk", "dial", "diamond", "diary", "dice",
    "diesel", "digit", "diner", "dinner", "disco", "dish", "doctor", "dog", "dolly", "dolphin", "dome",
    "domino", "donkey", "door", "dove", "dozen", "dragon", "drama", "drawer", "dream", "dress", "drill",
    "drink", "drizzle", "drum", "duck", "duet", "dune", "dust", "eagle", "early", "earth", "easel", "echo",
    "eclipse", "editor", "elbow", "eleven", "elf", "elk", "embassy", "ember", "emerald", "emperor",
    "endless", "engine", "english", "escape", "fabric", "factory", "falcon", "family", "faucet", "feast",
    "feather", "fence", "ferret", "fiddle", "field", "fiesta", "fig", "film", "finger", "firefly", "first",
    "fish", "flag", "flame", "flannel", "flash", "fleet", "flicker", "float", "flock", "floor", "flute",
    "foam", "fog", "folder", "fondue", "forest", "fork", "fossil", "fox", "freckle", "friend", "frisbee",
    "frog", "frost", "frozen", "fruit", "fudge", "furnace", "gadget", "galaxy", "gallery", "garage",
    "garden", "garlic", "garnet", "gavel", "gazelle", "gecko", "gentle", "geyser", "ghost", "giant", "gift",
    "ginger", "giraffe", "girl", "glacier", "glass", "glitter", "globe", "glory", "glove", "gnome", "goal",
    "goat", "goblet", "goggles", "gold", "golf", "gondola", "goose", "gown", "grace", "grain", "granite",
    "grape", "grass", "gravel", "green", "groove", "grove", "guard", "guava", "guide", "guitar", "halibut",
    "halo", "hamlet", "hammer", "hamster", "handle", "happy", "harmony", "harp", "harvest", "hat", "haven",
    "hawk", "heater", "hedge", "helium", "helmet", "hermit", "hickory", "hiker", "hill", "hippo", "hobby",
    "hockey", "holiday", "home", "honey", "hoof", "hook", "horizon", "hornet", "hostel", "hotdog", "hotel",
    "house", "hunter", "hurdle", "hybrid", "hydrant", "iceberg", "icicle", "icon", "igloo", "iguana",
    "indigo", "iris", "iron", "island", "ivory", "jacket", "jaguar", "jar", "jasmine", "javelin", "jazz",
    "jeep", "jelly", "jersey", "jet", "jigsaw", "jingle", "jockey", "jolly", "journal", "joy", "juggle",
    "juice", "jump", "jungle", "junior", "karate", "kayak", "kennel", "ketchup", "kettle", "keyring",
    "kimono", "king", "kiosk", "kitchen", "kite", "kitten", "kiwi", "knife", "knuckle", "koala", "ladder",
    "ladle", "lagoon", "lake", "lamp", "lantern", "laptop", "large", "laser", "latch", "latte", "laugh",
    "laundry", "lava", "lawyer", "leather", "ledge", "lemon", "lens", "leopard", "letter", "library", "lid",
    "light", "lilac", "lily", "lime", "linen", "lion", "lizard", "loaf", "lobby", "lobster", "locket",
    "lodge", "lotus", "lounge", "lucky", "luggage", "lullaby", "lumber", "lunch", "lyric", "machine",
    "magenta", "magic", "magnet", "magpie", "mammal", "mango", "mantis", "maple", "marble", "marina",
    "market", "mascot", "meadow", "melon", "mercury", "mermaid", "meteor", "milk", "mint", "mirror",
    "mitten", "mobile", "moment", "monkey", "mop", "mosaic", "moss", "motel", "mother", "motor", "mouse",
    "movie", "mud", "muffin", "mug", "mule", "mural", "museum", "music", "nacho", "napkin", "nebula",
    "neck", "nectar", "needle", "neptune", "nest", "network", "nickel", "nimble", "ninja", "noble", "noise",
    "nomad", "noodle", "noon", "novel", "nozzle", "nugget", "nurse", "nut", "nylon", "oak", "oasis",
    "oatmeal", "oboe", "ocean", "octopus", "office", "oil", "olive", "omega", "onion", "onyx", "opal",
    "open", "opera", "optic", "orange", "orbit", "orchard", "origami", "ostrich", "otter", "ounce", "oval",
    "oven", "owl", "oxygen", "oyster", "ozone", "paddle", "padlock", "page", "pagoda", "paint", "palace",
    "palm", "pancake", "panda", "panel", "panther", "papaya", "paper", "parade", "parcel", "park", "parrot",
    "parsley", "passage", "pasta", "path", "patrol", "pattern", "peach", "peanut", "pebble", "pecan",
    "pelican", "pencil", "penguin", "penny", "pepper", "pewter", "phoenix", "phone", "photo", "piano",
    "pickle", "picnic", "picture", "pigeon", "piglet", "pilgrim", "pillow", "pilot", "pinball", "pinch",
    "pink", "pioneer", "pirate", "pixel", "pizza", "planet", "plasma", "plate", "player", "plaza",
    "plumber", "plunge", "pocket", "podium", "poet", "point", "poker", "polar", "pollen", "polo", "pond",
    "pony", "poodle", "pool", "popcorn", "poppy", "porch", "portal", "poster", "potato", "pottery",
    "powder", "power", "prairie", "printer", "prism", "pudding", "puffin", "pulse", "pumpkin", "puppet",
    "purse", "puzzle", "pyramid", "python", "quail", "quarry", "queen", "quest", "quiet", "quilt", "quince",
    "quiver", "quiz", "rabbit", "radar", "radio", "raft", "railway", "rainbow", "raisin", "rapid", "rattle",
    "raven", "razor", "record", "repair", "reptile", "rhino", "rhubarb", "rhythm", "ribbon", "rice",
    "ripple", "river", "roadway", "robin", "robot", "rocket", "roof", "rookie", "room", "rooster", "rope",
    "round", "rowboat", "royal", "ruby", "rudder", "rugby", "ruler", "runner", "saddle", "safari",
    "saffron", "sailor", "salad", "salmon", "salon", "salt", "salute", "sand", "sardine", "satin", "saturn",
    "saucer", "sauna", "sausage", "savanna", "scanner", "scarf", "school", "science", "scooter", "scout",
    "screen", "scroll", "seagull", "season", "seaweed", "second", "shadow", "shampoo", "shark", "shawl",
    "sheep", "shelf", "sheriff", "shield", "shine", "shirt", "shovel", "shower", "shrimp", "shrub",
    "shuttle", "siesta", "signal", "silk", "silver", "singer", "siren", "sister", "skate", "sketch",
    "skipper", "skirt", "skyline", "slate", "sled", "sleeve", "slice", "slide", "slipper", "slope", "sloth",
    "slumber", "smile", "snack", "snail", "snake", "snorkel", "snow", "snuggle", "soap", "soccer", "socket",
    "soda", "sofa", "solar", "soldier", "solid", "sonar", "sorbet", "soup", "space", "spade", "spaniel",
    "spark", "spatula", "speed", "sphere", "spider", "spinach", "spiral", "splash", "sponge", "spoon",
    "sport", "spotted", "spring", "spruce", "square", "squeeze", "squid", "stable", "stadium", "stamp",
    "stapler", "steam", "stencil", "stereo", "sticker", "stitch", "stone", "storm", "stove", "stream",
    "string", "studio", "sugar", "suit", "sultan", "summer", "sunny", "sunset", "super", "swallow", "swamp",
    "swan", "sweater", "swift", "swim", "swing", "switch", "syrup", "table", "taco", "tadpole", "tandem",
    "tango", "tank", "target", "tavern", "taxi", "teacher", "teapot", "temple", "tennis", "tent", "textile",
    "thimble", "thistle", "thorn", "thread", "thrill", "thrush", "thumb", "thunder", "ticket", "tiger",
    "tile", "timber", "tinsel", "tiny", "tissue", "toast", "toddler", "toffee", "toggle", "tomato", "tonic",
    "tool", "topaz", "topic", "torch", "tornado", "totem", "toucan", "tourist", "towel", "town", "toy",
    "tractor", "trail", "transit", "travel", "tray", "tree", "trellis", "tribe", "trident", "trolley",
    "trophy", "trout", "truck", "truffle", "trumpet", "trunk", "tuba", "tugboat", "tulip", "tuna", "tundra",
    "tunic", "tunnel", "turban", "turkey", "turnip", "turtle", "tutor", "tuxedo", "tweed", "twelve",
    "twenty", "twig", "twin", "twist", "typhoon", "ukulele", "ultra", "uncle", "unicorn", "uniform",
    "union", "urban", "utensil", "vaccine", "valley", "valve", "van", "vase", "vehicle", "velvet", "venus",
    "veranda", "vessel", "viaduct", "victory", "video", "village", "vinegar", "vintage", "vinyl", "viola",
    "vision", "vista", "vivid", "voice", "volcano", "volley", "voltage", "volume", "voyage", "vulture",
    "waffle", "wagon", "waiter", "wallet", "walnut", "walrus", "waltz", "wander", "washer", "wasp", "watch",
    "water", "weaver", "wedding", "weekend", "welcome", "west", "wheat", "wheel", "whisker", "wide",
    "willow", "window", "winner", "winter", "wisdom", "witness", "wizard", "wolf", "wombat", "wonder",
    "wooden", "wool", "wreath", "wrench", "wrist", "writer", "yacht", "yak", "yard", "yarn", "yeast",
    "yellow", "yeti", "yodel", "yoga", "young", "zebra", "zenith", "zephyr", "zero", "zest", "zigzag",
    "zinc", "zipper", "zodiac", "zone", "zoo",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_keeps_its_rules() {
        assert!(WORDS.is_sorted(), "binary search needs order");
        for word in WORDS {
            assert!((3..=7).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{word}");
        }
        for pair in WORDS.windows(2) {
            let [a, b] = pair else { continue };
            assert!(!b.starts_with(a), "{a} begins {b}");
            let head = |word: &str| word.chars().take(PREFIX_LETTERS).collect::<String>();
            assert_ne!(head(a), head(b), "{a} and {b} share four letters");
        }
    }

    /// FNV-1a over the whole list: the words are part of version 1 and must not change by accident.
    #[test]
    fn the_list_is_the_one_of_version_one() {
        let digest = WORDS.join(" ").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!(digest, 0x2744_da4f_e7ff_622a);
    }

    #[test]
    fn four_letters_or_the_whole_word_find_it() {
        assert_eq!(find("guitar"), Some("guitar"));
        assert_eq!(find("guit"), Some("guitar"));
        assert_eq!(find("gui"), None);
        assert_eq!(find("zoo"), Some("zoo"));
        assert_eq!(find("zoos"), None);
        assert_eq!(find(""), None);
        for word in WORDS {
            assert_eq!(find(word), Some(word));
            let head: String = word.chars().take(PREFIX_LETTERS).collect();
            assert_eq!(find(&head), Some(word));
        }
    }

    #[test]
    fn a_misspelt_word_suggests_the_one_it_resembles() {
        assert_eq!(slips("guitar", "gitar"), 1);
        assert_eq!(slips("kitten", "sitting"), 3);
        assert_eq!(nearest("gitar"), Some("guitar"));
        assert_eq!(nearest("guit"), Some("guitar"));
        assert_eq!(nearest("qqqqqqq"), None);
    }
}
