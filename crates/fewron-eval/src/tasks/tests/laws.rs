//! Laws of every kind of task.

use std::sync::Mutex;

use fewron_model::{Logits, ModelError, Pool, Session};

use super::*;

fn outcomes(record: &TaskRecord, lane: usize) -> Vec<&Outcome> {
    record.samples.iter().map(|sample| &sample.variants[lane].outcome).collect()
}

#[test]
fn a_ratio_of_0_is_the_dense_model_to_the_last_bit() {
    let (model, _) = tiny();
    let none = Gate::new(&model, 0.0);
    for task in tasks() {
        let record = run(&task, &[&none], 2).unwrap();
        assert_eq!(record.results[1].active, Some(1.0), "{}", task.name);
        for (dense, sparse) in outcomes(&record, 0).into_iter().zip(outcomes(&record, 1)) {
            match (dense, sparse) {
                (Outcome::Window { nll, tokens, .. }, sparse) => {
                    let (kl, agree) = (Some(0.0), Some(*tokens));
                    let same = Outcome::Window { nll: *nll, tokens: *tokens, kl, agree };
                    assert_eq!(*sparse, same);
                }
                (Outcome::Text { text, .. }, Outcome::Text { text: sparse, .. }) => {
                    assert_eq!(text, sparse);
                }
                _ => assert_eq!(dense, sparse),
            }
        }
        let metric = &record.results[1].metrics[0];
        assert_eq!(metric.value, record.results[0].metrics[0].value);
        let change = metric.change.map_or((0.0, 0.0, 0.0), |c| (c.mean, c.low, c.high));
        assert_eq!(change, (0.0, 0.0, 0.0), "{}", task.name);
    }
}

#[test]
fn threads_change_nothing_and_masks_do() {
    let (model, _) = tiny();
    let (half, most) = (Gate::new(&model, 0.5), Gate::new(&model, 0.9));
    for task in tasks() {
        let variants: [&dyn Variant; 2] = [&half, &most];
        let one = run(&task, &variants, 1).unwrap();
        let three = TaskRecord { wall_s: one.wall_s, ..run(&task, &variants, 3).unwrap() };
        assert_eq!(one, three, "{}", task.name);
        // 80 neurons.
        let active: Vec<_> = one.results.iter().map(|result| result.active).collect();
        assert_eq!(active, [None, Some(0.5), Some(0.1)], "{}", task.name);
        assert_ne!(outcomes(&one, 0), outcomes(&one, 1), "{}", task.name);
        // A variant's records do not depend on those beside it.
        let alone = run(&task, &[&most], 1).unwrap();
        assert_eq!(outcomes(&alone, 1), outcomes(&one, 2), "{}", task.name);
    }
}

#[test]
fn answers_are_scored_as_if_each_were_alone() {
    let (model, tokenizer) = tiny();
    let task = task("arc_easy", "arc.jsonl", ARC).unwrap();
    let record = run(&task, &[], 1).unwrap();
    let prompts = ["What is wet", "What is hot", "Who sings"];
    let prompts = prompts.map(|question| format!("Question: {question}?\nAnswer:"));
    let answers: [&[&str]; 3] = [
        &[" a fish", " water", " sand and stone"],
        &[" ice", " fire"],
        // These begin alike.
        &[" a bird", " a bird in a tree", " a big stone"],
    ];
    for ((prompt, answers), outcome) in prompts.iter().zip(answers).zip(outcomes(&record, 0)) {
        let Outcome::Choice { logprobs, prediction, .. } = outcome else { panic!("{outcome:?}") };
        let start = tokenizer.encode_prompt(prompt).len();
        let expected = answers.iter().map(|answer| {
            let tokens = tokenizer.encode_prompt(&format!("{prompt}{answer}"));
            let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
            let each = tokens.windows(2).map(|pair| {
                let logits = session.forward(&pair[..1], None, None, Logits::Last).unwrap();
                let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                f64::from(logits[pair[1] as usize]) - total.ln()
            });
            each.skip(start - 1).sum::<f64>()
        });
        let expected: Vec<f64> = expected.collect();
        assert_eq!(logprobs.len(), expected.len());
        for (got, expected) in logprobs.iter().zip(&expected) {
            assert!((got - expected).abs() < 1e-4, "{got} and {expected}");
        }
        assert!(expected.iter().all(|p| *p <= expected[*prediction] + 1e-4));
    }
}

#[test]
fn windows_are_scored_behind_their_dense_tokens() {
    let (model, tokenizer) = tiny();
    let text = &crate::data::CALIBRATION_TEXT[..700];
    let record = run(&task("perplexity", "text.txt", text).unwrap(), &[], 2).unwrap();
    let tokens = tokenizer.encode_prompt(text);
    let mut sums = (0.0, 0);
    let windows = tokens.chunks(model.config().context).filter(|window| window.len() > 33);
    for (window, outcome) in windows.zip(outcomes(&record, 0)) {
        let mut session = Session::new(Arc::clone(&model), Arc::new(Pool::new(1)));
        let mut expected = 0.0;
        for (at, pair) in window.windows(2).enumerate() {
            let logits = session.forward(&pair[..1], None, None, Logits::Last).unwrap();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let nll = total.ln() - f64::from(logits[pair[1] as usize]);
            expected += if at < 32 { 0.0 } else { nll };
        }
        let Outcome::Window { nll, tokens, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(*tokens as usize, window.len() - 33);
        assert!((nll - expected).abs() < 1e-3, "{nll} and {expected}");
        sums = (sums.0 + nll, sums.1 + tokens);
    }
    assert!(record.samples.len() > 1 && record.data.tokens == sums.1);
    let perplexity = record.results[0].metrics[0].value;
    assert!((perplexity.ln() - sums.0 / sums.1 as f64).abs() < 1e-9);
}

/// The gate policy, keeping the prompts that it reads.
struct Seeing(Gate, Mutex<Vec<Vec<u32>>>);

impl Variant for Seeing {
    fn name(&self) -> &str {
        "seeing"
    }

    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError> {
        let reading = |mask| -> Box<dyn VariantMask + '_> { Box::new(Reading(mask, &self.1)) };
        Ok(self.0.start()?.map(reading))
    }
}

struct Reading<'a>(Box<dyn VariantMask + 'a>, &'a Mutex<Vec<Vec<u32>>>);

impl VariantMask for Reading<'_> {
    fn sees_prompt(&self) -> bool {
        true
    }

    fn read_prompt(
        &mut self,
        session: &mut Session,
        tokens: &[u32],
        wanted: Logits,
    ) -> Result<(), ModelError> {
        assert_eq!(session.position(), 0);
        self.1.lock().unwrap().push(tokens.to_vec());
        self.0.read_prompt(session, tokens, wanted)
    }

    fn masks(&mut self) -> &mut dyn MaskSource {
        self.0.masks()
    }
}

#[test]
fn a_mask_that_sees_its_prompt_reads_it_once_and_whole() {
    let (model, tokenizer) = tiny();
    let plain = Gate::new(&model, 0.5);
    for task in tasks() {
        let seeing = Seeing(Gate::new(&model, 0.5), Mutex::default());
        let record = run(&task, &[&seeing, &plain], 1).unwrap();
        assert_eq!(outcomes(&record, 1), outcomes(&record, 2), "{}", task.name);
        let read = seeing.1.into_inner().unwrap();
        assert_eq!(read.len(), record.samples.len(), "{}", task.name);
        let whole = |text: &str| tokenizer.encode_prompt(text);
        match task.name.as_str() {
            "perplexity" => assert!(read.iter().all(|tokens| tokens.len() == 32)),
            "arc_easy" => {
                let prompt = whole("Question: What is wet?\nAnswer:");
                assert_eq!(read[0], prompt[..prompt.len() - 1]);
            }
            _ => assert_eq!(read[0], whole("Q: 1+1?\nA: so #### 2\n\nQ: 2+1?\nA:")),
        }
    }
}

/// A variant on another model; without one of these, all of that model.
struct On<'a>(Arc<Model>, Option<&'a dyn Variant>);

impl Variant for On<'_> {
    fn name(&self) -> &str {
        self.1.map_or("whole", |variant| variant.name())
    }

    fn model(&self) -> Option<&Arc<Model>> {
        Some(&self.0)
    }

    fn start(&self) -> Result<Option<Box<dyn VariantMask + '_>>, VariantError> {
        self.1.map_or(Ok(None), |variant| variant.start())
    }
}

/// Whether outcomes are the same, but for what they say about the dense model beside them.
fn same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Outcome::Window { nll, tokens, .. }, Outcome::Window { nll: n, tokens: t, .. }) => {
            (nll, tokens) == (n, t)
        }
        (Outcome::Text { text, tokens, .. }, Outcome::Text { text: other, tokens: t, .. }) => {
            (text, tokens) == (other, t)
        }
        _ => one == other,
    }
}

#[test]
fn variants_of_several_models_get_what_each_model_gives_alone() {
    let (tiny, other) = (tiny().0, changed());
    let half = Gate::new(&tiny, 0.5);
    let seeing = Seeing(Gate::new(&tiny, 0.5), Mutex::default());
    let on = |mask| On(Arc::clone(&other), mask);
    let (masked, reading, whole) = (on(Some(&half)), on(Some(&seeing)), on(None));
    for task in tasks() {
        // Two samples begin alike, so that a prefix of one model could be taken for the other's.
        let beside: [&dyn Variant; 5] = [&half, &masked, &whole, &reading, &seeing];
        let all = run(&task, &beside, 1).unwrap();
        let one = run(&task, &[&half], 1).unwrap();
        let two = run_on(Arc::clone(&other), &task, &[&half], 1).unwrap();
        let expected =
            [(&one, 0), (&one, 1), (&two, 1), (&two, 0), (&two, 1), (&one, 1)].into_iter();
        for (lane, (record, alone)) in expected.enumerate() {
            let pairs = outcomes(&all, lane).into_iter().zip(outcomes(record, alone));
            for (sample, (got, expected)) in pairs.enumerate() {
                assert!(same(got, expected), "{} {lane} {sample}: {got:?}", task.name);
            }
        }
        assert!(!same(outcomes(&all, 0)[0], outcomes(&all, 3)[0]), "{}", task.name);
        assert_eq!(all.results[3].active, None, "{}", task.name);
        if let Outcome::Window { kl, .. } = outcomes(&all, 3)[0] {
            assert!(kl.unwrap() > 0.0, "against the original");
        }
    }
}
