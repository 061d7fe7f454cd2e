//! Definitions and data.

use super::super::definition::Definition;
use super::super::multiple_choice::split;
use super::super::sample::Samples;
use super::super::text_scores::last_number;
use super::*;

fn error(definition: &str, name: &str, data: &str) -> String {
    let error = task(definition, name, data).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn built_in_tasks_are_whole() {
    for name in builtin_tasks() {
        let (found, definition) = Definition::find(name).unwrap();
        assert_eq!(found, name);
        assert!(!definition.about().is_empty(), "{name}");
    }
    let unknown = Definition::find("arc").unwrap_err().to_string();
    assert!(unknown.contains("no task arc; there are perplexity, arc_easy, piqa"), "{unknown}");
}

#[test]
fn wrong_definitions_name_line_and_field() {
    let wrong = |toml: &str| error(toml, "data.jsonl", ARC);
    let head = "kind = \"multiple_choice\"\nprompt = \"{{ query }}\"\nchoices = \"choices\"\n";
    let unknown = wrong(&format!("{head}gold = \"gold\"\nmetrics = [\"acc\"]\nshots = 3\n"));
    assert!(unknown.contains("own.toml, line 6: unknown field `shots`"), "{unknown}");
    assert!(unknown.contains("`few_shot`"), "{unknown}");
    let missing = wrong(&format!("{head}metrics = [\"acc\"]\n"));
    assert!(missing.contains("missing field `gold`"), "{missing}");
    let metric = wrong(&format!("{head}gold = \"gold\"\nmetrics = [\"bleu\"]\n"));
    assert!(metric.contains("line 5") && metric.contains("`acc_norm`"), "{metric}");
    let kind = wrong("kind = \"quiz\"\n");
    assert!(kind.contains("line 1") && kind.contains("`multiple_choice`"), "{kind}");
    let none = wrong(&format!("{head}gold = \"gold\"\nmetrics = []\n"));
    assert!(none.contains("line 5: no metrics; there are acc, acc_norm, mc2"), "{none}");
    let jinja = wrong(&format!("{head}gold = \"(gold\"\nmetrics = [\"acc\"]\n"));
    assert!(jinja.contains("`gold` is no Jinja"), "{jinja}");
    let short = wrong("kind = \"perplexity\"\n\nwindow = 33\n");
    assert!(short.contains("line 3: window = 33 scores nothing; make it 34"), "{short}");
}

#[test]
fn wrong_records_name_line_and_field() {
    let no_gold =
        error("arc_easy", "arc.jsonl", "\n{\"query\": \"q\", \"choices\": [\"a\", \"b\"]}");
    assert!(no_gold.contains("arc.jsonl, line 2: "), "{no_gold}");
    assert!(no_gold.contains("in `gold` of task arc_easy"), "{no_gold}");
    assert!(no_gold.contains("the record has `query`, `choices`"), "{no_gold}");
    let far =
        error("arc_easy", "arc.jsonl", "{\"query\": \"q\", \"choices\": [\"a\"], \"gold\": 1}");
    assert!(far.contains("1 names none of 1 answers"), "{far}");
    let text =
        error("arc_easy", "arc.jsonl", "{\"query\": \"q\", \"choices\": \"ab\", \"gold\": 0}");
    assert!(text.contains("no list"), "{text}");
    assert!(error("piqa", "p.jsonl", "{\"goal\":").contains("p.jsonl, line 1: "));
    assert!(error("piqa", "p.txt", "plain").contains("this is plain text; expected a JSON"));
    assert!(error("piqa", "p.jsonl", "[]").contains("p.jsonl has no samples"));
    let few = error(SHORT_SUMS, "s.json", "[{\"question\": \"1+1?\", \"answer\": \"2\"}]");
    assert!(few.contains("1 records, and the first 1 are examples"), "{few}");
}

#[test]
fn labels_may_lie_beside_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("valid.jsonl");
    let record = "{\"goal\": \"g\", \"sol1\": \"one\", \"sol2\": \"two\"}\n";
    std::fs::write(&file, record.repeat(2)).unwrap();
    let load = || Task::load("piqa", &file, None);
    assert!(load().unwrap_err().to_string().contains("in `gold` of task piqa"));
    std::fs::write(folder.path().join("valid-labels.lst"), "1\n0\n").unwrap();
    let Samples::Choices(samples) = load().unwrap().samples else { panic!() };
    assert_eq!(samples[0].prompt, "Question: g\nAnswer:");
    let right: Vec<_> = samples.iter().map(|sample| sample.right.clone()).collect();
    assert_eq!(right, [[false, true], [true, false]]);
    std::fs::write(folder.path().join("valid_labels.lst"), "1\n").unwrap();
    let few = load().unwrap_err().to_string();
    assert!(few.contains("valid_labels.lst has 1 labels, but valid.jsonl has 2 records"), "{few}");
}

#[test]
fn built_in_tasks_read_their_files() {
    let choices = |name: &str, data: &str| {
        let Samples::Choices(mut samples) = task(name, "data.json", data).unwrap().samples else {
            panic!("{name}")
        };
        samples.remove(0)
    };
    let boolq = r#"[{"question": "is it", "passage": "It is.", "answer": true}]"#;
    let boolq = choices("boolq", boolq);
    assert_eq!(boolq.prompt, "It is.\nQuestion: is it?\nAnswer:");
    assert_eq!((boolq.choices.join("/"), boolq.right), ("no/yes".into(), vec![false, true]));
    let hellaswag = choices(
        "hellaswag",
        r#"[{"activity_label": "Baking", "ctx_a": "A man [x] bakes.", "ctx_b": "the Man",
        "endings": ["eats [title] Done", "runs"], "label": "1"}]"#,
    );
    assert_eq!(hellaswag.prompt, "Baking: A man bakes. The man");
    assert_eq!((hellaswag.choices.join("/"), hellaswag.right[1]), ("eats. Done/runs".into(), true));
    let mc = r#"[{"question": "Why?", "mc1_targets": {"z": 1, "a": 0}, "mc2_targets":
        {"choices": ["z", "y", "a"], "labels": [1, 1, 0]}}]"#;
    let mc1 = choices("truthfulqa_mc1", mc);
    assert!(mc1.prompt.starts_with("Q: What is human") && mc1.prompt.ends_with("\n\nQ: Why?\nA:"));
    assert_eq!((mc1.choices.join("/"), mc1.right), ("z/a".into(), vec![true, false]));
    assert_eq!(choices("truthfulqa_mc2", mc).right, [true, true, false]);
    let csv = "Type,Category,Question,Best Answer,Correct Answers\nA,Law,Why?,So,\"So; Thus\"\n";
    let Samples::Questions(questions) = task("truthfulqa_gen", "t.csv", csv).unwrap().samples
    else {
        panic!()
    };
    assert_eq!(
        (questions[0].prompt.as_str(), questions[0].references.join("/").as_str()),
        ("Why?", "So/So/Thus")
    );
    assert_eq!(questions[0].category.as_deref(), Some("Law"));
}

/// `_encode_pair` of lm-evaluation-harness, word for word.
fn encode_pair(tokenizer: &Tokenizer, context: &str, continuation: &str) -> (Vec<u32>, Vec<u32>) {
    let n_spaces = context.len() - context.trim_end().len();
    let continuation = format!("{}{continuation}", &context[context.len() - n_spaces..]);
    let context = &context[..context.len() - n_spaces];
    let whole_enc = tokenizer.encode_prompt(&format!("{context}{continuation}"));
    let context_enc = tokenizer.encode_prompt(context);
    let continuation_enc = whole_enc[context_enc.len()..].to_vec();
    (context_enc, continuation_enc)
}

#[test]
fn answers_are_cut_off_as_lm_evaluation_harness_does() {
    let (_, tokenizer) = tiny();
    for prompt in ["Question: Who?\nAnswer:", "Question: Who?\nAnswer: ", "It is", "What ?\n\n"] {
        for answer in [" the cat", "the cat", " x", "s a b c", " Æther 12"] {
            let (context, answer_tokens) = split(&tokenizer, prompt, answer);
            let expected = encode_pair(&tokenizer, prompt, answer);
            assert_eq!((context.clone(), answer_tokens.clone()), expected, "{prompt:?}{answer:?}");
            assert!(!answer_tokens.is_empty());
        }
    }
    let (context, answer) = split(&tokenizer, "Question: Who?\nAnswer: ", "me");
    assert_eq!(tokenizer.decode(&context, false), "Question: Who?\nAnswer:");
    assert_eq!(tokenizer.decode(&answer, false), " me");
}

#[test]
fn last_numbers() {
    let cases = [
        ("so 16*60=1,200 dollars.\n", Some("1200")),
        ("#### -5", Some("-5")),
        ("$3.50 each", Some("3.50")),
        ("it costs $18.00.", Some("18")),
        ("16-3", Some("-3")),
        ("none - at all.", None),
    ];
    for (text, number) in cases {
        assert_eq!(last_number(text).as_deref(), number, "{text}");
    }
}
