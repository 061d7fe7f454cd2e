use super::*;

fn load(extension: &str, text: &str) -> Result<Vec<Sample>, String> {
    Dataset::parse("file", extension, text.as_bytes(), None)
        .map(|data| data.samples)
        .map_err(|e| e.to_string())
}

fn questions(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|sample| sample.question.as_str()).collect()
}

#[test]
fn truthful_qa_csv_with_byte_order_mark() {
    let text = "\u{feff}Type,Category,Question,Best Answer,Correct Answers,Source\n\
                Plain,Birds,\"Do hens fly, at all?\",A little,Not far; A little ; For a moment,x\n\
                Plain,Birds,\"Two\nlines?\",Yes,,x\n";
    let samples = load("csv", text).unwrap();
    assert_eq!(questions(&samples), ["Do hens fly, at all?", "Two\nlines?"]);
    assert_eq!(samples[0].references, ["A little", "Not far", "For a moment"]);
    assert_eq!(samples[0].category.as_deref(), Some("Birds"));
    assert_eq!((samples[0].id.as_str(), samples[1].id.as_str()), ("1", "2"));
}

#[test]
fn csv_problems_name_the_line() {
    let missing = load("csv", "Type,Text\na,b\n").unwrap_err();
    assert!(missing.starts_with("file, line 1: no column `Question`"), "{missing}");
    let short = load("csv", "Question,Best Answer\na,b\nonly\n").unwrap_err();
    assert!(short.starts_with("file, line 3: 1 fields where the header has 2"), "{short}");
    let empty = load("csv", "Question,Best Answer\na,b\n  ,c\n").unwrap_err();
    assert!(empty.starts_with("file, line 3: the question is empty"), "{empty}");
}

#[test]
fn yahoo_answers_array() {
    let text = r#"[
      {"main_category": "Pets", "question": "Why do cats purr?", "id": "77",
       "answer": "Comfort.", "nbestanswers": ["Comfort.", "To heal."]},
      {"question": "And dogs?", "id": 78}
    ]"#;
    let samples = load("json", text).unwrap();
    assert_eq!(samples[0].references, ["Comfort.", "To heal."]);
    assert_eq!(samples[0].category.as_deref(), Some("Pets"));
    assert_eq!((samples[0].id.as_str(), samples[1].id.as_str()), ("77", "78"));
}

#[test]
fn instruction_array_joins_instruction_and_input() {
    let text = r#"[{"instruction": "Add.", "input": "1 and 2", "output": "3"},
                   {"instruction": "Sing.", "input": "", "output": "La"}]"#;
    let samples = load("json", text).unwrap();
    assert_eq!(questions(&samples), ["Add.\n1 and 2", "Sing."]);
    assert_eq!(samples[0].references, ["3"]);
}

#[test]
fn array_problems_name_the_line() {
    let text = "[\n {\"question\": \"a\"},\n {\n  \"question\": 7\n }\n]";
    let wrong_type = load("json", text).unwrap_err();
    assert!(wrong_type.starts_with("file, line 4: invalid type: integer `7`"), "{wrong_type}");
    let missing = load("json", "[\n{\"question\": \"a\"},\n{\"text\": \"b\"}]").unwrap_err();
    assert!(missing.starts_with("file, line 3: no question"), "{missing}");
    let cut = load("json", "[\n{\"question\": \"a\"},\n").unwrap_err();
    assert!(cut.starts_with("file, line 3: EOF"), "{cut}");
}

#[test]
fn json_lines() {
    let text = "{\"question\": \"a\", \"answer\": \"x\", \"references\": [\"y\"]}\n\n{\"prompt\": \"b\"}\n";
    let samples = load("jsonl", text).unwrap();
    assert_eq!(questions(&samples), ["a", "b"]);
    assert_eq!(samples[0].references, ["x", "y"]);
    let scalars = r#"{"question": "a", "answer": true, "id": 7}"#;
    let sample = &load("jsonl", scalars).unwrap()[0];
    assert_eq!((sample.id.as_str(), sample.references[0].as_str()), ("7", "true"));
    let broken = load("jsonl", "{\"question\": \"a\"}\n\n{\"question\": }\n").unwrap_err();
    assert!(broken.starts_with("file, line 3: expected value; expected an object"), "{broken}");
}

#[test]
fn text_in_paragraphs() {
    let samples = load("txt", "\n one\ntwo  \n\n\n\nthree\r\n\r\nfour").unwrap();
    assert_eq!(questions(&samples), [" one\ntwo", "three", "four"]);
}

#[test]
fn content_tells_what_the_extension_does_not() {
    assert_eq!(Format::detect("", "[{}]"), Format::JsonArray);
    assert_eq!(Format::detect("dat", " {\"question\": 1}"), Format::JsonLines);
    assert_eq!(Format::detect("", "Category,Question\na,b"), Format::Csv);
    assert_eq!(Format::detect("", "Question everything."), Format::Text);
    assert_eq!(Format::detect("json", "{\"question\": \"a\"}"), Format::JsonLines);
}

#[test]
fn empty_files_and_bad_encodings_are_errors() {
    for extension in ["csv", "jsonl", "txt"] {
        let error = load(extension, if extension == "csv" { "Question\n" } else { " \n" });
        assert!(error.unwrap_err().starts_with("file has no samples; expected `builtin`"));
    }
    assert!(load("json", "[]").unwrap_err().starts_with("file has no samples"));
    let error = Dataset::parse("file", "txt", b"fine\nno\xff", None).unwrap_err().to_string();
    assert_eq!(error, "file, line 2: not UTF-8 text; expected a text file in UTF-8");
    let missing = Dataset::load("no/such/file.csv", None).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read data file no/such/file.csv: "), "{missing}");
}

#[test]
fn builtin_questions_are_many_and_varied() {
    let data = Dataset::load("builtin", None).unwrap();
    assert_eq!((data.name.as_str(), data.samples.len(), data.sha256.len()), ("builtin", 120, 64));
    let unique = |field: fn(&Sample) -> String| {
        data.samples.iter().map(field).collect::<std::collections::HashSet<_>>().len()
    };
    assert_eq!(unique(|sample| sample.question.clone()), 120);
    assert_eq!(unique(|sample| sample.category.clone().unwrap()), 12);
}

#[test]
fn a_limit_keeps_the_first_samples_and_the_hash() {
    let (all, few) = (Dataset::load("builtin", None), Dataset::load("builtin", Some(3)));
    let (all, few) = (all.unwrap(), few.unwrap());
    assert_eq!(few.samples, all.samples[..3]);
    assert_eq!(few.sha256, all.sha256);
    assert!(Dataset::load("builtin", Some(0)).is_err());
}
