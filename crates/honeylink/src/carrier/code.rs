//! Codes with which a connection is closed, as both sides see them.

/// The node has nothing more to say.
pub const DONE: u32 = 0;
/// The node is shutting down.
pub const SHUTDOWN: u32 = 1;
/// The devices are not paired (any more).
pub const NOT_PAIRED: u32 = 2;
/// The key was revoked here.
pub const REVOKED: u32 = 3;
/// No pairing mode is open.
pub const NOT_PAIRING: u32 = 4;
/// Too many connections.
pub const TOO_MANY: u32 = 5;
/// The protocol was violated.
pub const VIOLATION: u32 = 6;
/// The device takes no part in the mesh.
pub const MESH_OFF: u32 = 7;
/// The device does not relay for this one.
pub const NOT_GRANTED: u32 = 8;
