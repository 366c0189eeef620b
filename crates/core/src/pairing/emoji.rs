//! The 64 pictures of a short authentication string, with the names people say them by.
//!
//! Chosen to be told apart at arm's length, in any font, without colour, and to be everyday things with one obvious name.
//! Each is a single character that terminals draw as a picture on its own. The order is part of protocol version 1;
//! the names are not, and more languages may be added.

/// A language that names are known in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English; what is used where the person's language is missing.
    #[default]
    English,
    /// German.
    German,
    /// Japanese.
    Japanese,
}

impl Language {
    /// The language of a POSIX locale or BCP 47 tag such as `de_AT.UTF-8` or `ja`; English if it is not one of ours.
    #[must_use]
    pub fn from_tag(tag: &str) -> Self {
        match tag.split(['_', '-', '.', '@']).next() {
            Some("de") => Self::German,
            Some("ja") => Self::Japanese,
            Some(_) | None => Self::English,
        }
    }
}

/// One picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emoji {
    symbol: &'static str,
    names: [&'static str; 3],
}

impl Emoji {
    /// The picture itself.
    #[must_use]
    pub const fn symbol(&self) -> &'static str {
        self.symbol
    }

    /// What to call it.
    #[must_use]
    pub const fn name(&self, language: Language) -> &'static str {
        let [english, german, japanese] = self.names;
        match language {
            Language::English => english,
            Language::German => german,
            Language::Japanese => japanese,
        }
    }

    /// The picture with this number; only the low six bits count.
    pub(super) const fn at(number: u8) -> Self {
        EMOJI[(number & 63) as usize]
    }
}

/// All of them.
#[rustfmt::skip]
pub const EMOJI: [Emoji; 64] = [
    Emoji { symbol: "🍋", names: ["Lemon", "Zitrone", "レモン"] },
    Emoji { symbol: "🍇", names: ["Grapes", "Trauben", "ぶどう"] },
    Emoji { symbol: "🍒", names: ["Cherries", "Kirschen", "さくらんぼ"] },
    Emoji { symbol: "🥕", names: ["Carrot", "Karotte", "にんじん"] },
    Emoji { symbol: "🌽", names: ["Corn", "Mais", "とうもろこし"] },
    Emoji { symbol: "🧀", names: ["Cheese", "Käse", "チーズ"] },
    Emoji { symbol: "🥨", names: ["Pretzel", "Brezel", "プレッツェル"] },
    Emoji { symbol: "🍯", names: ["Honey", "Honig", "はちみつ"] },
    Emoji { symbol: "☕", names: ["Coffee", "Kaffee", "コーヒー"] },
    Emoji { symbol: "🍩", names: ["Donut", "Donut", "ドーナツ"] },
    Emoji { symbol: "🐝", names: ["Bee", "Biene", "ハチ"] },
    Emoji { symbol: "🐌", names: ["Snail", "Schnecke", "カタツムリ"] },
    Emoji { symbol: "🐙", names: ["Octopus", "Krake", "タコ"] },
    Emoji { symbol: "🐘", names: ["Elephant", "Elefant", "ゾウ"] },
    Emoji { symbol: "🦊", names: ["Fox", "Fuchs", "キツネ"] },
    Emoji { symbol: "🐸", names: ["Frog", "Frosch", "カエル"] },
    Emoji { symbol: "🦉", names: ["Owl", "Eule", "フクロウ"] },
    Emoji { symbol: "🐢", names: ["Turtle", "Schildkröte", "カメ"] },
    Emoji { symbol: "🐳", names: ["Whale", "Wal", "クジラ"] },
    Emoji { symbol: "🦔", names: ["Hedgehog", "Igel", "ハリネズミ"] },
    Emoji { symbol: "🦩", names: ["Flamingo", "Flamingo", "フラミンゴ"] },
    Emoji { symbol: "🐫", names: ["Camel", "Kamel", "ラクダ"] },
    Emoji { symbol: "🦘", names: ["Kangaroo", "Känguru", "カンガルー"] },
    Emoji { symbol: "🐧", names: ["Penguin", "Pinguin", "ペンギン"] },
    Emoji { symbol: "🌵", names: ["Cactus", "Kaktus", "サボテン"] },
    Emoji { symbol: "🌻", names: ["Sunflower", "Sonnenblume", "ひまわり"] },
    Emoji { symbol: "🍁", names: ["Maple leaf", "Ahornblatt", "もみじ"] },
    Emoji { symbol: "🍄", names: ["Mushroom", "Pilz", "きのこ"] },
    Emoji { symbol: "🌙", names: ["Moon", "Mond", "月"] },
    Emoji { symbol: "🌈", names: ["Rainbow", "Regenbogen", "虹"] },
    Emoji { symbol: "🌋", names: ["Volcano", "Vulkan", "火山"] },
    Emoji { symbol: "⛄", names: ["Snowman", "Schneemann", "雪だるま"] },
    Emoji { symbol: "⚡", names: ["Lightning", "Blitz", "稲妻"] },
    Emoji { symbol: "🔥", names: ["Fire", "Feuer", "炎"] },
    Emoji { symbol: "🎈", names: ["Balloon", "Luftballon", "風船"] },
    Emoji { symbol: "🎁", names: ["Gift", "Geschenk", "プレゼント"] },
    Emoji { symbol: "🎲", names: ["Dice", "Würfel", "サイコロ"] },
    Emoji { symbol: "🎸", names: ["Guitar", "Gitarre", "ギター"] },
    Emoji { symbol: "🎺", names: ["Trumpet", "Trompete", "トランペット"] },
    Emoji { symbol: "🥁", names: ["Drum", "Trommel", "太鼓"] },
    Emoji { symbol: "🎨", names: ["Palette", "Farbpalette", "パレット"] },
    Emoji { symbol: "🚲", names: ["Bicycle", "Fahrrad", "自転車"] },
    Emoji { symbol: "🚜", names: ["Tractor", "Traktor", "トラクター"] },
    Emoji { symbol: "🚀", names: ["Rocket", "Rakete", "ロケット"] },
    Emoji { symbol: "🚁", names: ["Helicopter", "Hubschrauber", "ヘリコプター"] },
    Emoji { symbol: "⛵", names: ["Sailboat", "Segelboot", "ヨット"] },
    Emoji { symbol: "🚂", names: ["Locomotive", "Dampflok", "機関車"] },
    Emoji { symbol: "⚓", names: ["Anchor", "Anker", "いかり"] },
    Emoji { symbol: "🏰", names: ["Castle", "Burg", "城"] },
    Emoji { symbol: "🌉", names: ["Bridge", "Brücke", "橋"] },
    Emoji { symbol: "⛺", names: ["Tent", "Zelt", "テント"] },
    Emoji { symbol: "🔑", names: ["Key", "Schlüssel", "鍵"] },
    Emoji { symbol: "🔔", names: ["Bell", "Glocke", "ベル"] },
    Emoji { symbol: "🔨", names: ["Hammer", "Hammer", "ハンマー"] },
    Emoji { symbol: "💡", names: ["Light bulb", "Glühbirne", "電球"] },
    Emoji { symbol: "🧲", names: ["Magnet", "Magnet", "磁石"] },
    Emoji { symbol: "🔭", names: ["Telescope", "Fernrohr", "望遠鏡"] },
    Emoji { symbol: "🧭", names: ["Compass", "Kompass", "コンパス"] },
    Emoji { symbol: "⏰", names: ["Alarm clock", "Wecker", "目覚まし時計"] },
    Emoji { symbol: "📎", names: ["Paperclip", "Büroklammer", "クリップ"] },
    Emoji { symbol: "📚", names: ["Books", "Bücher", "本"] },
    Emoji { symbol: "👑", names: ["Crown", "Krone", "王冠"] },
    Emoji { symbol: "🧦", names: ["Socks", "Socken", "靴下"] },
    Emoji { symbol: "🎩", names: ["Top hat", "Zylinder", "シルクハット"] },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_pictures_share_a_symbol_or_a_name() {
        let unique = |of: fn(&Emoji) -> &'static str| EMOJI.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(unique(Emoji::symbol), 64);
        assert_eq!(unique(|e| e.name(Language::English)), 64);
        assert_eq!(unique(|e| e.name(Language::German)), 64);
        assert_eq!(unique(|e| e.name(Language::Japanese)), 64);
    }

    #[test]
    fn every_symbol_is_one_character() {
        assert!(EMOJI.iter().all(|e| e.symbol().chars().count() == 1));
    }

    #[test]
    fn locales_find_their_language() {
        assert_eq!(Language::from_tag("de_AT.UTF-8"), Language::German);
        assert_eq!(Language::from_tag("ja"), Language::Japanese);
        assert_eq!(Language::from_tag("C.UTF-8"), Language::English);
    }
}
