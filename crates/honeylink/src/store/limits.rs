//! Every maximum of the durable state, by name. The protocols' own maxima are in [`honeylink_core::limits`].

/// Most records kept of devices that were only seen. Strangers decide how many there are, so the one unseen for longest
/// makes room. Paired and revoked devices are the user's doing and are not counted.
pub const SEEN_PEERS_MAX: usize = 1024;
/// Longest note on a peer, in bytes of UTF-8.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Most tunnels granted to one peer by name.
pub const TUNNEL_GRANTS_MAX: usize = 64;
/// Longest name of a tunnel, in bytes.
pub const TUNNEL_NAME_BYTES_MAX: usize = 63;
/// Largest encoded grants of one peer, in bytes: the tunnels, with room for rights that do not exist yet.
pub const GRANTS_BYTES_MAX: usize = 8192;
/// Fewest hex digits that may stand for a device id.
pub const ID_PREFIX_DIGITS_MIN: usize = 4;
/// Most candidates or near misses listed when a name does not resolve.
pub const CANDIDATES_MAX: usize = 8;

/// Most transfers remembered, running and ended. The one that ended longest ago makes room.
pub const TRANSFERS_MAX: usize = 1000;
/// Most transfers that have not ended. More are refused: nothing may push out a transfer that can still resume.
pub const TRANSFERS_OPEN_MAX: usize = 500;
/// Most paths offered in one transfer (folders count once).
pub const TRANSFER_SOURCES_MAX: usize = 4096;
/// Longest absolute path in a transfer record, in bytes (Linux `PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest error text in a transfer record, in bytes.
pub const ERROR_BYTES_MAX: usize = 1024;
/// How often the progress of one transfer is written to disk, in milliseconds. Between writes it is in memory only; the
/// transfer's own verified parts, not this number, decide where a resume starts.
pub const PROGRESS_PERSIST_MS: u64 = 1000;

/// Most messages kept per peer. The oldest makes room.
pub const CHAT_MESSAGES_PER_PEER_MAX: u64 = 10_000;
/// Longest chat message, in bytes of UTF-8.
pub const CHAT_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most messages returned by one listing.
pub const CHAT_LIST_MAX: usize = 1000;

/// Most records of the mesh read back. Each of its tables has a limit of its own far below.
pub const MESH_RECORDS_MAX: usize = 1 << 16;
/// Most mesh messages that wait to be taken by the application. Further ones are lost, with a warning.
pub const MESH_INBOX_MESSAGES_MAX: usize = 1024;
/// Most bytes of them.
pub const MESH_INBOX_BYTES_MAX: usize = 4 << 20;

/// Size at which the audit log starts a new file, in bytes (requirement ID6).
pub const AUDIT_FILE_BYTES_MAX: u64 = 50_000_000;
/// Age of its first line at which the audit log starts a new file, in milliseconds: 30 days. Without it a quiet device
/// would never rotate, and so never drop what is older than [`AUDIT_KEEP_MS`].
pub const AUDIT_FILE_AGE_MS_MAX: u64 = 30 * 86_400_000;
/// How long a finished audit file is kept after its last line, in milliseconds: 90 days (requirement ID6).
pub const AUDIT_KEEP_MS: u64 = 90 * 86_400_000;
/// Most finished audit files kept. Bounds the disk a flood of rejected sessions can use to about 1 GB.
pub const AUDIT_FILES_MAX: usize = 20;
/// Most bytes of the audit log read back for display.
pub const AUDIT_RECENT_BYTES_MAX: u64 = 1 << 20;

/// Memory redb may use to cache pages, in bytes. Its default is 1 GiB; the whole state is a few megabytes.
pub const CACHE_BYTES_MAX: usize = 4 << 20;
