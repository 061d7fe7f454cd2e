//! `fewron chat`: a conversation, line by line.

mod conversation;

use std::io::{BufRead, IsTerminal, Write, stdin, stdout};
use std::num::NonZeroUsize;

use anyhow::{Context, Result};

use crate::Outcome;
use crate::cli::ChatArgs;
use crate::generation::{Answer, End, Generator, sampler};
use crate::loaded::{self, Loaded};
use crate::mask::Masking;
use crate::stats::Stats;
use crate::ui;

use conversation::Conversation;

const HELP: &str = "\
/reset        start a new conversation
/system TEXT  change the system message (no text: none) and start a new conversation
/stats        tokens and speed of the last answer
/exit         leave (so does Ctrl-D)
/help         this list
Ctrl-C stops an answer.";

pub(crate) fn run(args: &ChatArgs, threads: Option<NonZeroUsize>) -> Result<Outcome> {
    args.mask.check()?;
    let sampler = sampler(&args.sampling)?;
    let loaded = Loaded::for_plans(&args.model, &args.mask.plans())?;
    let pool = loaded::pool(threads);
    let masking = Masking::new(&args.mask, &loaded, &pool)?;
    let mask = masking.as_ref().map(Masking::mask);
    let generator = Generator::new(&loaded, &pool, sampler, &args.engine, mask);
    let conversation = Conversation::new(args.system.clone());
    let mut chat = Chat { args, loaded: &loaded, generator, conversation, last: None };
    if stdin().is_terminal() {
        ui::note(&format!("{}: write a message, or /help", loaded.file.name));
    }
    while let Some(line) = next_line()? {
        if chat.take(&line)? == Next::Leave {
            break;
        }
    }
    Ok(Outcome::Done)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    Leave,
}

struct Chat<'a> {
    args: &'a ChatArgs,
    loaded: &'a Loaded,
    generator: Generator<'a>,
    conversation: Conversation,
    last: Option<Stats>,
}

impl Chat<'_> {
    /// Does what a line says: a command, or a message that gets an answer.
    fn take(&mut self, line: &str) -> Result<Next> {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match command {
            "" => {}
            "/exit" | "/quit" => return Ok(Next::Leave),
            "/help" => ui::note(HELP),
            "/stats" => match &self.last {
                Some(stats) => ui::note(&stats.to_string()),
                None => ui::note("there is no answer yet"),
            },
            "/reset" => {
                self.conversation.reset();
                ui::note("new conversation");
            }
            "/system" => {
                let system = rest.trim();
                self.conversation = Conversation::new((!system.is_empty()).then(|| system.into()));
                ui::note("new conversation");
            }
            _ if command.starts_with('/') => ui::note(&format!("no command {command}; see /help")),
            _ => self.answer(line)?,
        }
        Ok(Next::Go)
    }

    fn answer(&mut self, question: &str) -> Result<()> {
        self.conversation.ask(question);
        let prompt = match self.conversation.prompt(self.loaded, self.args.max_new_tokens) {
            Ok(prompt) => prompt,
            Err(error) => {
                self.conversation.withdraw();
                ui::note(&format!("{error:#}"));
                return Ok(());
            }
        };
        let mut out = stdout();
        let answer = self.generator.answer(&prompt, self.args.max_new_tokens, &mut |piece| {
            out.write_all(piece.as_bytes())?;
            out.flush()
        })?;
        writeln!(out)?;
        self.finish(answer);
        Ok(())
    }

    fn finish(&mut self, answer: Answer) {
        match answer.end {
            End::Model => {}
            End::Limit => ui::note(&format!("(ended after {} tokens)", self.args.max_new_tokens)),
            End::Context => ui::note("(ended: the context is full)"),
            End::Interrupted => ui::note("(stopped)"),
        }
        ui::clear_interrupt();
        if self.args.stats {
            ui::note(&answer.stats.to_string());
        }
        self.conversation.answered(answer.text);
        self.last = Some(answer.stats);
    }
}

/// The next line of stdin, after a prompt on a terminal; `None` at its end. Bytes that are no UTF-8
/// become U+FFFD.
fn next_line() -> Result<Option<String>> {
    let terminal = stdin().is_terminal();
    if terminal {
        eprint!("> ");
    }
    let mut line = Vec::new();
    let read = ui::waiting(|| stdin().lock().read_until(b'\n', &mut line));
    if read.context("cannot read stdin")? == 0 {
        if terminal {
            eprintln!();
        }
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}
