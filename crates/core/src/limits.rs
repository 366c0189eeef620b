//! Every maximum of the protocols, by name, in one place.
//!
//! A queue without a bound is a way for a stranger to spend our memory, so each bound has a name here, and the code that
//! keeps it says the name. Units are the last word of a name.

use core::time::Duration;

/// Default largest message a link accepts, in bytes (requirement LK6). Checked by both sides before any allocation.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest value `MESSAGE_BYTES_MAX` may be configured to: the frame header's length field is checked against it.
pub const MESSAGE_BYTES_CEILING: usize = 16 << 20;
/// Largest control frame (hello, close, stream header) in bytes. Real ones stay under 200.
pub const CONTROL_BYTES_MAX: usize = 1024;
/// Longest protocol name, in bytes.
pub const PROTOCOL_BYTES_MAX: usize = 64;
/// Longest reason text in a close frame, in bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// Longest device name, in bytes of UTF-8. A DNS-SD TXT string holds 255 with its key.
pub const NAME_BYTES_MAX: usize = 63;
/// Most devices the nearby table remembers; the oldest unpaired entry makes room.
pub const NEARBY_DEVICES_MAX: usize = 256;
/// Most addresses kept per device.
pub const ADDRESSES_PER_DEVICE_MAX: usize = 16;
/// Longest host name of a relay, in bytes (RFC 1035 section 2.3.4, without the final dot).
pub const RELAY_HOST_BYTES_MAX: usize = 253;
/// Most relays a device is reached at.
pub const RELAYS_PER_DEVICE_MAX: usize = 4;
/// Bytes of every note left in the DHT. It takes values of at most 1,000, and a length that never changes says nothing.
pub const WIDE_NOTE_BYTES: usize = 512;
/// Most addresses in a note.
pub const WIDE_ADDRESSES_MAX: usize = 8;
/// Most interfaces remembered per device and finder.
pub const INTERFACES_PER_SIGHTING_MAX: usize = 8;
/// Longest program version a device may announce, in bytes of visible ASCII.
pub const VERSION_BYTES_MAX: usize = 32;
/// How long one paired device's impostors stay unmentioned after a warning, so that a flood of them is one warning.
pub const CONFLICT_QUIET: Duration = Duration::from_secs(10);
/// Shortest and longest time an observation of a nearby device is believed, whatever it asks for.
pub const NEARBY_TTL_MIN: Duration = Duration::from_secs(1);
/// See [`NEARBY_TTL_MIN`].
pub const NEARBY_TTL_MAX: Duration = Duration::from_secs(3600);

/// Unacknowledged bytes a session keeps for resume before `send` waits.
pub const SESSION_WINDOW_BYTES_MAX: usize = 8 << 20;
/// Unacknowledged messages a session keeps for resume before `send` waits.
pub const SESSION_WINDOW_MESSAGES_MAX: usize = 65_536;
/// Received bytes waiting for the application before the link stops reading from the network.
pub const RECEIVE_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Received messages waiting for the application before the link stops reading from the network.
pub const RECEIVE_QUEUE_MESSAGES_MAX: usize = 65_536;
/// How long a session may stay in `Pending` before it is closed (requirement LK2).
pub const SESSION_PENDING_MAX: Duration = Duration::from_secs(30);
/// How long a session may stay `Suspended` before it is closed (requirement LK2); configurable.
pub const SESSION_SUSPENDED_MAX: Duration = Duration::from_secs(300);

/// Connections a node holds at the same time from devices it has not paired with (they are only pairing).
pub const STRANGER_CONNECTIONS_MAX: usize = 32;
/// Links (sessions) one peer may hold open at the same time.
pub const LINKS_PER_PEER_MAX: usize = 64;
/// Streams one peer may hold open at the same time.
pub const STREAMS_PER_PEER_MAX: u32 = 1024;
/// Bytes of all streams of one connection that may have arrived and not been read. A stream alone may have 1.25 MB of them:
/// more than the messages of every link a peer may hold can take, so that none of those waits for another, and a tenth of
/// what a thousand streams that nobody reads would.
pub const UNREAD_BYTES_MAX: u32 = 128 << 20;
/// Datagrams waiting for the application; newer ones are dropped and counted, as datagrams may be.
pub const DATAGRAM_QUEUE_MAX: usize = 1024;
/// Bytes handed to a carrier at a time when several streams compete: what a more urgent one may have to wait for.
pub const QOS_CHUNK_BYTES_MAX: u64 = 4 << 10;
/// Streams one scheduler serves at the same time.
pub const QOS_STREAMS_MAX: usize = 16_384;
/// Datagrams of one stream waiting in a scheduler.
pub const QOS_DATAGRAMS_MAX: usize = 1024;
/// Bytes of one stream waiting in a scheduler, unless its options say less.
pub const QOS_QUEUE_BYTES_MAX: u64 = 4 << 20;
/// The longest a stream with something to send goes unserved on a link that moves anything at all.
pub const QOS_STARVATION_MAX: Duration = Duration::from_secs(10);
/// How long a peer may take to acknowledge a policy before it is rolled back (requirement QS4).
pub const POLICY_ACK_MAX: Duration = Duration::from_secs(5);
/// Policies one link holds at the same time.
pub const POLICIES_MAX: usize = 64;
/// Blocks of datagrams a decoder keeps for repair; the oldest makes room.
pub const FEC_BLOCKS_MAX: usize = 16;
/// Datagrams in one block, repair datagrams included.
pub const FEC_BLOCK_SHARDS_MAX: usize = 32;
/// Flows of datagrams that a peer may send on one connection at a time.
pub const DATAGRAM_FLOWS_MAX: usize = 64;
/// Incoming links waiting for `accept`.
pub const ACCEPT_QUEUE_MAX: usize = 64;
/// Incoming streams of a link waiting for `accept_stream`. As many as a peer may open, or a burst of them would lose some.
pub const STREAM_QUEUE_MAX: usize = STREAMS_PER_PEER_MAX as usize;

/// How long a pairing code lives (requirement PA1).
pub const PAIRING_CODE_LIFETIME: Duration = Duration::from_secs(300);
/// Wrong codes allowed per window, counted globally and per source (requirement PA1).
pub const PAIRING_FAILURES_MAX: usize = 3;
/// The window over which wrong codes are counted.
pub const PAIRING_FAILURE_WINDOW: Duration = Duration::from_secs(600);
/// Wrong codes allowed per window from one source. The global bound is the tighter one; this keeps a raised global bound
/// from being one stranger's.
pub const PAIRING_FAILURES_PER_SOURCE_MAX: usize = 3;
/// Pairing codes open at the same time.
pub const PAIRING_CODES_OPEN_MAX: usize = 8;
/// Past codes remembered to tell a late guest whether its code was used, withdrawn or expired.
pub const PAIRING_CODES_REMEMBERED_MAX: usize = 32;
/// Longest text taken for a typed pairing code, in bytes.
pub const PAIRING_CODE_TEXT_BYTES_MAX: usize = 64;
/// How long one step of a pairing ceremony may take on the network.
pub const PAIRING_STEP_MAX: Duration = Duration::from_secs(10);
/// How long a person may take to compare short strings.
pub const PAIRING_COMPARE_MAX: Duration = Duration::from_secs(120);
/// Addresses in an invite.
pub const INVITE_ADDRESSES_MAX: usize = 3;
/// Longest text of an invite, in bytes.
pub const INVITE_TEXT_BYTES_MAX: usize = 768;
/// Largest pairing frame, in bytes.
pub const PAIRING_FRAME_BYTES_MAX: usize = 512;

/// Most entries (files, folders) in one transfer.
pub const TRANSFER_ENTRIES_MAX: usize = 1_000_000;
/// Longest relative path of a transferred file, in bytes.
pub const TRANSFER_PATH_BYTES_MAX: usize = 1024;
/// Deepest folder nesting in a transfer.
pub const TRANSFER_DEPTH_MAX: usize = 64;
/// Longest single file or folder name in a transfer, in bytes: what ext4, APFS and NTFS can all hold.
pub const TRANSFER_NAME_BYTES_MAX: usize = 255;
/// Largest control frame of a transfer, in bytes. A listing is cut into frames of this size.
pub const TRANSFER_FRAME_BYTES_MAX: usize = 64 << 10;
/// Largest data frame of a transfer, in bytes of file content.
pub const TRANSFER_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Files up to this size, in bytes, travel in one frame together with their hash.
pub const TRANSFER_WHOLE_BYTES_MAX: usize = 64 << 10;
/// Entries that may be listed ahead of the one whose content is on its way.
pub const TRANSFER_WINDOW_ENTRIES_MAX: usize = 2048;
/// Half-received files a receiver offers to continue at the same time; the rest start again.
pub const TRANSFER_PARTIAL_CLAIMS_MAX: usize = 64;
/// Remarks (skipped, renamed entries) a transfer report keeps; further ones are only counted.
pub const TRANSFER_NOTES_MAX: usize = 256;
/// Names tried (`name (2)`, `name (3)`, ...) before a transfer gives up finding a free one.
pub const TRANSFER_RENAMES_MAX: u32 = 10_000;

/// Chat messages that one paired device may have kept, per second in the long run. Each is a write to disk. What is more
/// waits in the device's links and holds it back.
pub const CHAT_MESSAGES_PER_S_MAX: u32 = 20;
/// Chat messages of one paired device that are kept without waiting after a pause.
pub const CHAT_MESSAGES_BURST_MAX: u32 = 200;
/// Offers of files that one paired device may have judged, per second in the long run; more wait.
pub const OFFERS_PER_S_MAX: u32 = 10;
/// Offers of one paired device that are judged without waiting after a pause.
pub const OFFERS_BURST_MAX: u32 = 64;
/// Links that one paired device may begin, per second in the long run; more wait.
pub const LINKS_OPENED_PER_S_MAX: u32 = 100;
/// Links of one paired device that begin without waiting after a pause.
pub const LINKS_OPENED_BURST_MAX: u32 = 256;
/// Addresses one device may name to have them tried, per second in the long run; more end the connection. Each is tried nine
/// times at most, with some fifty bytes: less than four kilobytes a second.
pub const CANDIDATES_PER_S_MAX: u32 = 8;
/// Addresses one device may name at once after a pause: eight times as many as count in one round of hole punching.
pub const CANDIDATES_BURST_MAX: u32 = 256;

/// Longest chat message, in bytes of UTF-8; longer texts go as files.
pub const CHAT_MESSAGE_BYTES_MAX: usize = 16 << 10;

// The mesh. Its tables grow as they are used; nothing here is allocated ahead.

/// Largest message the mesh carries, in bytes, over however many fragments.
pub const MESH_MESSAGE_BYTES_MAX: usize = 32 << 10;
/// Longest time anything is kept for a device that does not show up.
pub const MESH_LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Largest record the mesh keeps on disk, in bytes: a whole message with its head.
pub const MESH_RECORD_BYTES_MAX: usize = MESH_MESSAGE_BYTES_MAX + 256;
/// Frames remembered to tell a copy from something new; half of them for sure.
pub const MESH_SEEN_FRAMES_MAX: usize = 4096;
/// Peers whose replay windows are kept; the longest silent stranger makes room.
pub const MESH_REPLAY_PEERS_MAX: usize = 256;
/// Stretches of missing numbers a replay window remembers behind the highest it received.
pub const MESH_REPLAY_GAPS_MAX: usize = 64;
/// Longest pause between two tries of anything, in the mesh.
pub const MESH_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Times one fragment is sent before its message is given up.
pub const MESH_FRAGMENT_TRIES_MAX: u8 = 12;
/// Questions in a row for a fragment status before a message is given up.
pub const MESH_FRAGMENT_ASKS_MAX: u8 = 6;
/// Fragment statuses sent in a row while no further fragment comes.
pub const MESH_FRAGMENT_STATUS_MAX: u8 = 4;
/// Bytes of unfinished messages, overhead included.
pub const MESH_ASSEMBLY_BYTES_MAX: usize = 256 << 10;
/// Bytes of unfinished messages of one peer, overhead included: one of the longest, in the smallest pieces, fits.
pub const MESH_ASSEMBLY_PEER_BYTES_MAX: usize = 64 << 10;
/// Messages remembered as complete, so that a late fragment brings their receipt again.
pub const MESH_ASSEMBLY_DONE_MAX: usize = 128;
/// Shortest and longest time an unfinished message waits for its next fragment.
pub const MESH_ASSEMBLY_IDLE_MIN: Duration = Duration::from_secs(60);
/// See [`MESH_ASSEMBLY_IDLE_MIN`].
pub const MESH_ASSEMBLY_IDLE_MAX: Duration = Duration::from_secs(2 * 3600);
/// Token buckets of neighbours and sources; strangers have half of them.
pub const MESH_BUCKETS_MAX: usize = 512;
/// Own messages under way.
pub const MESH_OUTBOX_MESSAGES_MAX: usize = 256;
/// Bytes of own messages under way.
pub const MESH_OUTBOX_BYTES_MAX: usize = 1 << 20;
/// A message that is worth nothing after so short a time is not written to disk.
pub const MESH_VOLATILE_LIFETIME_MAX: Duration = Duration::from_secs(60);
/// Shortest pause between two tries of a message, before it grows.
pub const MESH_PAUSE_MIN: Duration = Duration::from_secs(5);
/// Frames held for others.
pub const MESH_CUSTODY_FRAMES_MAX: usize = 1024;
/// Largest frame held for others, in bytes.
pub const MESH_CUSTODY_FRAME_BYTES_MAX: usize = 4 << 10;
/// Messages whose receipts passed, remembered so that they are not taken into custody again.
pub const MESH_CUSTODY_DONE_MAX: usize = 512;
/// Bytes of frames that a store node keeps for others, unless it is told otherwise.
pub const MESH_CUSTODY_BYTES: usize = 512 << 10;
/// The longest time that a frame can say it is worth keeping, as its code: just under [`MESH_LIFETIME_MAX`].
pub const MESH_KEEP_CODE_MAX: u8 = 153;
/// Frames overheard that a store node may take if nobody else does.
pub const MESH_OFFERS_MAX: usize = 16;
/// Frames held for others that are on their way at the same time.
pub const MESH_HANDING_OUT_MAX: usize = 4;
/// Hops a mesh frame may take: six bits of its header.
pub const MESH_HOPS_MAX: u8 = 63;
/// Hops an announce or a beacon may take (requirement ME1). Farther devices are found by asking.
pub const MESH_ANNOUNCE_HOPS_MAX: u8 = 8;
/// Largest mesh frame on a radio, in bytes: what common LoRa modems send in two packets.
pub const MESH_RADIO_FRAME_BYTES_MAX: usize = 508;
/// Largest mesh frame on a connection to one neighbour, in bytes.
pub const MESH_FRAME_BYTES_MAX: usize = 16 << 10;
/// Largest frame that a message is cut for, in bytes: what any LoRa modem sends in one packet, with a byte of its own.
pub const MESH_CUT_FRAME_BYTES_MAX: usize = 254;
/// A message in more fragments than this is not given to others to keep.
pub const MESH_DEPOSIT_FRAGMENTS_MAX: u8 = 16;
/// Most fragments of one message.
pub const MESH_FRAGMENTS_MAX: u8 = 255;
/// Largest body of a signed mesh frame, in bytes.
pub const MESH_SIGNED_BODY_BYTES_MAX: usize = 64;
/// Largest number of a link class on the wire: four classes.
pub const MESH_CLASS_MAX: u8 = 3;
/// Ports of one node: its radios and its connections to neighbours.
pub const MESH_PORTS_MAX: usize = 64;
/// Neighbours remembered over all ports; the one silent for longest makes room.
pub const MESH_NEIGHBOURS_MAX: usize = 64;
/// Destinations in the routing table; the one neither used nor heard of for longest makes room.
pub const MESH_ROUTES_MAX: usize = 256;
/// How long a way is believed that nobody speaks of (requirement ME1: 30 minutes).
pub const MESH_ROUTE_AGE_MAX: Duration = Duration::from_secs(1800);
/// Frames on their way over one hop at the same time; further ones are shed.
pub const MESH_PASSAGES_MAX: usize = 32;
/// Frames that wait to be repeated to everybody near.
pub const MESH_SPREADS_MAX: usize = 32;
/// Frames that wait for their moment to be sent, over all ports.
pub const MESH_LINE_MAX: usize = 96;
/// Frames handed to ports that have not said yet what became of them.
pub const MESH_SUBMITTED_MAX: usize = 96;
/// Frames remembered so that none is passed on twice; half of them for sure.
pub const MESH_SIGHTINGS_MAX: usize = 1024;
/// Messages whose way is remembered, so that their receipts find back; half of them for sure.
pub const MESH_CRUMBS_MAX: usize = 256;
/// Times a frame is passed on again because its source repeats it.
pub const MESH_REPEATS_MAX: u8 = 8;
/// Devices whose keys are known; a paired one takes a stranger's place.
pub const MESH_PEERS_MAX: usize = 256;
/// Receipts that wait for the disk.
pub const MESH_RECEIPTS_OWED_MAX: usize = 64;
/// Events that wait to be polled; further ones are lost.
pub const MESH_EVENTS_MAX: usize = 256;
/// Devices remembered because they announced themselves; one heard once makes room first.
pub const MESH_ROLL_MAX: usize = 128;
/// How long a device that fell silent stays on the roll: two of the rarest announces on a radio.
pub const MESH_ROLL_AGE_MAX: Duration = Duration::from_secs(8 * 3600);
/// Searches for ways, resting ones included.
pub const MESH_SEARCHES_MAX: usize = 64;
/// Largest IP control frame, in bytes of CBOR.
pub const MESH_CONTROL_BYTES_MAX: usize = 1024;
/// Arrays and maps in each other in a field of an IP control frame that is not known here.
pub const MESH_CONTROL_DEPTH_MAX: usize = 4;
/// Services a device names in an IP control hello.
pub const MESH_SERVICES_MAX: usize = 12;
/// Messages that one step of a mesh ratchet covers, as a power of two: the keys of 64 messages are erased together.
pub const MESH_RATCHET_BLOCK_BITS: u32 = 6;
/// Steps a mesh ratchet takes for one frame: what a forged number can make a receiver compute, about a millisecond.
pub const MESH_RATCHET_AHEAD_BLOCKS_MAX: u32 = 1024;
/// Devices with which ratchets are kept; as many as are known at all.
pub const MESH_RATCHET_PEERS_MAX: usize = MESH_PEERS_MAX;
/// Ratchets that were replaced and still open what was sealed with them, for each peer.
pub const MESH_RATCHET_FORMER_MAX: usize = 3;
/// Former steps whose keys a mesh ratchet keeps for frames that come late.
pub const MESH_RATCHET_LATE_BLOCKS_MAX: usize = 8;
/// Beacons in one hash chain; a device that has sent them all announces a new one. A week at one in ten minutes.
pub const MESH_CHAIN_VALUES_MAX: u16 = 1024;
/// Beacons that may be missed in a row: what a forged index can make a receiver compute. The next announce helps.
pub const MESH_CHAIN_STEPS_MAX: u16 = 256;

/// Bands of a region.
pub const RADIO_BANDS_MAX: usize = 16;
/// Bands of a stored ledger: those of a few regions that one radio was used in within an hour.
pub const RADIO_LEDGER_BANDS_MAX: usize = 64;
/// Transmissions a rolling hour keeps apart; beyond, neighbours count as one, for as long as the later of them.
pub const RADIO_WINDOW_ENTRIES_MAX: usize = 256;
/// Largest frame to or from a radio modem, in bytes: two packets of 254 and a header byte each.
pub const RADIO_FRAME_BYTES_MAX: usize = 508;
/// Frames that wait for one radio.
pub const RADIO_QUEUE_FRAMES_MAX: usize = 64;
/// Announces among them.
pub const RADIO_QUEUE_ANNOUNCES_MAX: usize = 8;
/// Bytes that wait for one radio.
pub const RADIO_QUEUE_BYTES_MAX: usize = 16 << 10;
/// How long a radio may be told to stay silent at a time.
pub const RADIO_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long after a frame's airtime a modem may take to report it, its own waiting for a free channel included.
pub const RADIO_MODEM_REPORT_MAX: Duration = Duration::from_secs(60);
/// How often a frame is offered to a modem that gives it back.
pub const RADIO_MODEM_TRIES_MAX: u8 = 3;

/// Sightings of a NAT box that are remembered.
pub const NAT_SIGHTINGS_MAX: usize = 16;
/// Sources an observer counts questions of.
pub const NAT_ASKERS_MAX: usize = 4096;
/// Sockets opened for one attempt to get through a NAT box.
pub const NAT_SOCKETS_MAX: u16 = 256;
/// Probes sent in one attempt: 64 KiB without headers.
pub const NAT_PROBES_MAX: u16 = 2048;
/// Answers given to probes in one attempt.
pub const NAT_ANSWERS_MAX: u16 = 64;
/// Pairs of endpoints remembered in one attempt.
pub const NAT_CANDIDATES_MAX: usize = 8;
/// How long one attempt takes.
pub const NAT_ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Attempts under way at a time, with different devices: 256 sockets each.
pub const NAT_ATTEMPTS_MAX: usize = 3;
/// How often one device may ask for an attempt.
pub const NAT_ATTEMPT_EVERY: Duration = Duration::from_secs(5);
/// Devices reached through punched holes at a time.
pub const NAT_HOLES_MAX: usize = 64;
/// Observers asked at a time, and tickets shown for an attempt.
pub const NAT_OBSERVERS_MAX: usize = 4;
/// How often one device may ask to be called back.
pub const CALL_BACK_EVERY: Duration = Duration::from_secs(5);
/// Devices called back within that time.
pub const CALL_BACK_PEERS_MAX: usize = 8;
/// Addresses of one device that are called.
pub const CALLED_ADDRESSES_MAX: usize = 4;
/// Largest frame of the conversation before an attempt, in bytes.
pub const NAT_TALK_BYTES_MAX: usize = 640;

/// Devices that one node carries packets for.
pub const FERRY_GUESTS_MAX: usize = 64;
/// Other devices that packets of one of them are carried to.
pub const FERRY_CROSSINGS_MAX: usize = 32;
/// What is carried of one of them, bytes a second: 64 Mbit/s, more than most homes send.
pub const FERRY_GUEST_BYTES_PER_S: u64 = 8_000_000;
/// What is carried of all together, bytes a second.
pub const FERRY_BYTES_PER_S: u64 = 32_000_000;
/// How long nothing is carried before it is forgotten that something was agreed.
pub const FERRY_IDLE_MAX: Duration = Duration::from_secs(120);
/// Largest frame between a guest and its ferry, in bytes, without its length.
pub const FERRY_TALK_BYTES_MAX: usize = 36;
/// Bytes that wait to be sent on one connection between a guest and its ferry.
pub const FERRY_QUEUE_BYTES_MAX: usize = 256 << 10;
/// Packets that were carried here and wait until QUIC reads them.
pub const FERRY_ARRIVED_MAX: usize = 1024;
/// Devices that carry packets for this one.
pub const FERRIES_MAX: usize = 4;

/// Ways to one peer that are told beside the one in use.
pub const PATHS_MAX: usize = 16;
/// Changes of the way to one peer that are remembered.
pub const PATH_CHANGES_MAX: usize = 64;
