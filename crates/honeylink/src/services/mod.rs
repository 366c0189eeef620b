//! What people do with links: chat, files, pipes, measurements. Each service is an ordinary application of the library: it listens for
//! one protocol, asks the trust store what the peer may do, and needs nothing that another program could not have.
//!
//! A service runs until its node shuts down; dropping its handle stops nothing that is under way.

pub mod chat;
pub mod files;
pub mod pipe;
pub mod speed;
mod steer;

pub use self::chat::Chat;
pub use self::files::Files;
pub use self::pipe::Pipes;
pub use self::speed::Speed;
pub use self::steer::PolicyChoice;
