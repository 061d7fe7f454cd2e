//! `fewron chat` on tiny models: each line of stdin is a turn.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::sync::Arc;

use fewron_model::chat::{ChatTemplate, Message};
use fewron_model::gguf::Gguf;
use fewron_model::sampler::argmax;
use fewron_model::tokenizer::Tokenizer;
use fewron_model::{Logits, Model, Pool, Session};
use support::{Run, fewron_stdin, tiny};

fn chat(more: &[&str], lines: &str) -> Run {
    let home = tempfile::tempdir().unwrap();
    let model = tiny("tiny-llama");
    let run = fewron_stdin(home.path(), &[&["chat", &model, "-n", "5"], more].concat(), lines);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

/// Greedy answers of five tokens, each from an empty cache.
fn expected_answers(questions: &[&str]) -> String {
    let gguf = Gguf::open(tiny("tiny-llama").as_ref()).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let template = ChatTemplate::from_gguf(&gguf, &tokenizer).unwrap().unwrap();
    let model = Arc::new(Model::from_gguf(gguf).unwrap());
    let mut session = Session::new(model, Arc::new(Pool::new(1)));
    let (mut messages, mut out) = (Vec::new(), String::new());
    for question in questions {
        messages.push(Message::new("user", *question));
        let mut ids = template.ids(&tokenizer, &messages, true).unwrap();
        let (prompt, mut decoder, mut answer) = (ids.len(), tokenizer.decoder(true), String::new());
        while ids.len() < prompt + 5 {
            session.truncate(0);
            let token = argmax(session.forward(&ids, None, None, Logits::Last).unwrap());
            if tokenizer.is_end(token) {
                break;
            }
            answer.push_str(&decoder.push(token));
            ids.push(token);
        }
        answer.push_str(&decoder.finish());
        out.push_str(&format!("{answer}\n"));
        messages.push(Message::new("assistant", answer));
    }
    out
}

#[test]
fn answers_are_those_of_the_whole_conversation() {
    let run = chat(&["--stats"], "Hi\nWho?\n");
    assert_eq!(run.stdout, expected_answers(&["Hi", "Who?"]));
    let prompts: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("prompt")).collect();
    assert!(!prompts[0].contains("known") && prompts[1].contains(" known)"), "{prompts:?}");
}

#[test]
fn reset_and_system_start_anew() {
    let run = chat(&[], "Hi\nWho?\n/reset\nHi\n/system Be brief.\nHi\n/system\nHi\n");
    let answers: Vec<&str> = run.stdout.split_inclusive('\n').collect();
    let first = expected_answers(&["Hi"]);
    assert!(run.stdout.starts_with(&expected_answers(&["Hi", "Who?"])));
    assert!(run.stdout.ends_with(&first), "{answers:?}");
    assert_eq!(run.stdout.matches(&first).count(), 3, "{answers:?}");
    assert_eq!(run.stderr.matches("new conversation").count(), 3);
    let system = chat(&["--system", "Be brief."], "Hi\n");
    assert!(run.stdout.contains(&system.stdout) && system.stdout != first);
}

#[test]
fn commands() {
    let run = chat(&[], "/help\n\n/stats\n/nonsense\n/exit\nHi\n");
    assert_eq!(run.stdout, "");
    for part in ["/reset ", "/system TEXT", "there is no answer yet", "no command /nonsense"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
}

#[test]
fn old_turns_are_forgotten_when_the_context_is_full() {
    let run = chat(&[], &"Tell me more\n".repeat(6));
    assert!(run.stderr.contains("the oldest 2 turns are forgotten"), "{}", run.stderr);
    let run = chat(&[], &format!("{}\nHi\n", "too long ".repeat(30)));
    assert!(run.stderr.contains("the context holds 128; write a shorter one"), "{}", run.stderr);
    assert_eq!(run.stdout, expected_answers(&["Hi"]));
}
