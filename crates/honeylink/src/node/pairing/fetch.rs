//! The stream that a one-time code opens to a device that is not paired.

use std::time::Duration;

use honeylink_core::identity::DeviceId;

use crate::carrier::{Conn, PathReport, RecvStream, SendStream, code};

/// How long one side waits for the other to close the connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// An authenticated stream to a device that is not paired, for one transfer.
#[derive(Debug)]
pub struct FetchStream {
    /// The device at the other end.
    pub peer: DeviceId,
    /// Its name, authenticated by the code.
    pub name: String,
    /// Our bytes.
    pub send: SendStream,
    /// Its bytes.
    pub recv: RecvStream,
    pub(super) conn: Conn,
}

impl FetchStream {
    /// The path in use.
    #[must_use]
    pub fn path(&self) -> Option<PathReport> {
        self.conn.paths().into_iter().next()
    }

    /// The two directions of the stream, and what is left of it.
    pub(crate) fn split(self) -> (FetchEnd, SendStream, RecvStream) {
        (FetchEnd { conn: self.conn }, self.send, self.recv)
    }

    /// Ends the connection after the transfer. The side that received the last byte calls it.
    pub fn close(&self) {
        self.conn.close(code::DONE, "done");
    }

    /// Waits until the other side ended the connection, or a moment.
    pub async fn closed(&self) {
        // Whoever does not close in time loses nothing: the transfer was confirmed before.
        let _ = tokio::time::timeout(FAREWELL, self.conn.closed()).await;
    }
}

/// The connection of a [`FetchStream`] whose directions were taken.
#[derive(Debug)]
pub(crate) struct FetchEnd {
    conn: Conn,
}

impl FetchEnd {
    pub(crate) fn path(&self) -> Option<PathReport> {
        self.conn.paths().into_iter().next()
    }

    pub(crate) fn close(&self) {
        self.conn.close(code::DONE, "done");
    }

    pub(crate) async fn closed(&self) {
        // Whoever does not close in time loses nothing: the transfer was confirmed before.
        let _ = tokio::time::timeout(FAREWELL, self.conn.closed()).await;
    }
}
