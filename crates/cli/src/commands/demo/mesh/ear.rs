//! What one device says and hears, from a certain moment on, with nothing forgotten.

use honeylink_api::client::Lines;
use honeylink_api::{ChatEvent, ChatMessage, Direction, routes};

use crate::commands::demo::device::Device;
use crate::commands::demo::steps::ended_early;
use crate::failure::Failure;

/// See the module's doc.
pub(super) struct Ear {
    events: Lines<ChatEvent>,
    /// What came so far.
    past: Vec<ChatMessage>,
}

impl Ear {
    pub(super) async fn open(device: &Device) -> Result<Self, Failure> {
        let mut events = device.client.watch::<ChatEvent>(routes::CHAT_WATCH).await?;
        // The first line says that nothing is missed from here on.
        events.next().await?;
        Ok(Self { events, past: Vec::new() })
    }

    /// The first message, or news of one, that is `wanted`; also if it came before.
    pub(super) async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&ChatMessage) -> bool,
    ) -> Result<ChatMessage, Failure> {
        if let Some(known) = self.past.iter().find(|message| wanted(message)) {
            return Ok(known.clone());
        }
        loop {
            match self.events.next().await?.ok_or_else(|| ended_early(what))? {
                ChatEvent::Message(message) | ChatEvent::Update(message) => {
                    self.past.push(message.clone());
                    if wanted(&message) {
                        return Ok(message);
                    }
                }
                ChatEvent::Ready => {}
                ChatEvent::Skipped { .. } => return Err(ended_early(what)),
            }
        }
    }

    /// How often a text came from the other side.
    pub(super) fn times(&self, text: &str) -> usize {
        let heard = |message: &&ChatMessage| message.direction == Direction::In && message.text == text;
        self.past.iter().filter(heard).count()
    }
}
