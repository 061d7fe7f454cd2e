//! The turns of a chat, and which of them fit the context.

use anyhow::{Result, ensure};
use fewron_model::chat::Message;

use crate::loaded::Loaded;
use crate::ui;

/// A system message and turns: user and model by turns, the user first.
#[derive(Debug)]
pub(super) struct Conversation {
    system: Option<Message>,
    turns: Vec<Message>,
}

impl Conversation {
    /// A conversation without turns.
    pub(super) fn new(system: Option<String>) -> Self {
        Self { system: system.map(|text| Message::new("system", text)), turns: Vec::new() }
    }

    /// Forgets the turns.
    pub(super) fn reset(&mut self) {
        self.turns.clear();
    }

    /// Adds the user's turn.
    pub(super) fn ask(&mut self, question: &str) {
        self.turns.push(Message::new("user", question));
    }

    /// Takes the user's turn back.
    pub(super) fn withdraw(&mut self) {
        self.turns.pop();
    }

    /// Adds the model's turn.
    pub(super) fn answered(&mut self, answer: String) {
        self.turns.push(Message::new("assistant", answer));
    }

    /// The tokens of the conversation. The oldest turns are forgotten, and a note says so, until
    /// there is room for an answer of `answer_tokens`, or of a quarter of the context if that is
    /// less.
    ///
    /// # Errors
    /// When the user's last turn alone fills the context, or the template refuses the turns.
    pub(super) fn prompt(&mut self, loaded: &Loaded, answer_tokens: usize) -> Result<Vec<u32>> {
        let context = loaded.context();
        let room = answer_tokens.min(context / 4);
        let mut forgotten = 0;
        loop {
            let messages: Vec<Message> =
                self.system.iter().chain(&self.turns[forgotten..]).cloned().collect();
            let ids = loaded.conversation(&messages)?;
            let last = self.turns.len() <= forgotten + 1;
            ensure!(
                !last || ids.len() < context,
                "the message makes {} tokens, the context holds {context}; write a shorter one",
                ids.len()
            );
            if last || ids.len() + room <= context {
                self.forget(forgotten);
                return Ok(ids);
            }
            // A question and its answer.
            forgotten += 2;
        }
    }

    fn forget(&mut self, turns: usize) {
        if turns > 0 {
            self.turns.drain(..turns);
            ui::note(&format!("(the context is full: the oldest {turns} turns are forgotten)"));
        }
    }
}
