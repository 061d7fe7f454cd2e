//! `fewron calibrate`, and plans in the commands that take them.

#[allow(dead_code, unreachable_pub)]
mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use support::{fewron, fewron_env};

/// A plan for tiny-llama with few tokens and a low rank.
fn calibrate(home: &Path, plan: &Path, more: &[&str]) -> support::Run {
    let mut arguments = vec!["calibrate", "tiny-llama", "--tokens", "1024", "--weighting", "rms"];
    arguments.extend(["--traced-tokens", "64", "--compensation", "32", "--out"]);
    arguments.push(plan.to_str().unwrap());
    arguments.extend(more);
    fewron(home, &arguments)
}

#[test]
fn a_plan_is_made_and_used() {
    let home = tempfile::tempdir().unwrap();
    let plan = home.path().join("half.plan");
    let run = calibrate(home.path(), &plan, &["--sparsity", ".5", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("tokens to calibrate on; at least"), "{}", run.stderr);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&record["policy"], &record["compensation"]), (&"gate".into(), &32.into()));
    let active = record["held_out"]["active"].as_f64().unwrap();
    assert!((active - 0.5).abs() < 0.06, "{active}");

    let plan = plan.to_str().unwrap();
    let prompt = ["-p", "The cat", "-n", "12", "--stats", "--plan", plan];
    let run = fewron(home.path(), &[&["generate", "tiny-llama"], &prompt[..]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("of the MLP neurons"), "{}", run.stderr);
    let text = home.path().join("text.txt");
    fs::write(&text, "The cat sat on the mat and looked at the dog. ".repeat(12)).unwrap();
    let text = text.to_str().unwrap();
    let score = |more: &[&str]| -> Value {
        let arguments = ["score", "tiny-llama", "--text-file", text, "--json"];
        let run = fewron(home.path(), &[&arguments, more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let (dense, sparse) = (score(&[]), score(&["--plan", plan]));
    assert_eq!(sparse["plan"], "half.plan");
    assert!(sparse["nll"] != dense["nll"]);
    let run = fewron(
        home.path(),
        &["bench", "tiny-llama", "--plan", plan, "--prefill", "0", "--kv", "0", "--decode", "4"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("half.plan"), "{}", run.stdout);
    let budget = ["--resident-budget", "1"];
    let run = fewron(home.path(), &[&["generate", "tiny-llama"], &prompt[..], &budget].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// The plan with a norm in place of the model's: what `recover` writes, without edits.
fn recovered(plan: &Path, to: &Path, norm: f32) {
    let bytes = fs::read(plan).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let old = header.metadata().as_ref().unwrap()["fewron.plan"].clone();
    let mut json: Value = serde_json::from_str(&old).unwrap();
    json["format_version"] = 2.into();
    let quality = json!({"tokens": 900, "perplexity": 4.5, "kl": 0.25, "agreement": 0.75});
    json["record"]["recovery"] = json!({
        "version": "0.1.0", "data_sha256": "00", "tokens": 8192, "steps": 4, "seed": 0, "lr": 0.003,
        "train": ["edits", "norms"], "edits": {"count": 30, "codes": 1000},
        "held_out": {"before": quality, "after": quality, "after_dense": quality},
    });
    let metadata = HashMap::from([("fewron.plan".to_owned(), json.to_string())]);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values: Vec<u8> = [norm; 160].iter().flat_map(|value| value.to_le_bytes()).collect();
    let new = TensorView::new(Dtype::F32, vec![160], &values).unwrap();
    let tensors = file.tensors().into_iter().chain([("norm.output".to_owned(), new)]);
    fs::write(to, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn a_recovered_plan_changes_the_model() {
    let home = tempfile::tempdir().unwrap();
    let (plan, half, twice) = ("plan", "half", "twice");
    let [plan, half, twice] = [plan, half, twice].map(|name| home.path().join(name));
    let run = calibrate(home.path(), &plan, &["--sparsity", ".5", "--uniform"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    recovered(&plan, &half, 0.5);
    recovered(&plan, &twice, 2.0);
    let [plan, half, twice] = [&plan, &half, &twice].map(|path| path.to_str().unwrap());
    let run = fewron(home.path(), &["inspect", half]);
    for words in
        ["4 steps on 8192 tokens", "30 of 1000 codes (3.00%)", "perplexity 4.500, KL 0.2500"]
    {
        assert!(run.stdout.contains(words), "{}", run.stdout);
    }
    let run = fewron(home.path(), &["inspect", half, "--json"]);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(record["recovery"]["held_out"]["after"]["kl"], 0.25);
    let text = home.path().join("text.txt");
    fs::write(&text, "The cat sat on the mat and looked at the dog. ".repeat(8)).unwrap();
    let text = text.to_str().unwrap();
    let score = |plan: &str| {
        let run = fewron(
            home.path(),
            &["score", "tiny-llama", "--text-file", text, "--json", "--plan", plan],
        );
        assert_eq!(run.code, 0, "{}", run.stderr);
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        (json["nll"].as_f64().unwrap(), run.stderr.contains("changes the model's weights"))
    };
    let scores = [plan, half, twice].map(score);
    assert_eq!(scores.map(|score| score.1), [false, true, true]);
    assert!(scores[0].0 != scores[1].0 && scores[1].0 != scores[2].0, "{scores:?}");
    let bench = ["--prefill", "0", "--kv", "0", "--decode", "4"];
    for (plans, problem) in [
        (["--plan", half, "--plan", twice], "in different ways"),
        (["--plan", half, "--plan", plan], "in different ways"),
    ] {
        let run = fewron(home.path(), &[&["bench", "tiny-llama"], &plans[..], &bench].concat());
        assert_eq!(run.code, 2, "{}", run.stdout);
        assert!(run.stderr.contains(problem), "{}", run.stderr);
    }
    let sweep = ["sweep", "tiny-llama", "--protocol", "runtime", "--limit", "1", "--plan", half];
    let run = fewron(home.path(), &sweep);
    assert_eq!(run.code, 2, "{}", run.stdout);
    assert!(run.stderr.contains("changes the model's weights"), "{}", run.stderr);
}

#[test]
fn plans_that_are_not_for_a_model_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let plan = home.path().join("half.plan");
    let run = calibrate(home.path(), &plan, &["--sparsity", ".5", "--uniform"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let refused = |model: &str, plan: &Path| {
        let arguments = ["generate", model, "-p", "x", "--plan", plan.to_str().unwrap()];
        let run = fewron(home.path(), &arguments);
        assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
        run.stderr
    };
    let error = refused("tiny-qwen3", &plan);
    assert!(error.contains("was made for model tiny-llama"), "{error}");
    assert!(error.contains("run `fewron calibrate` to make a plan for it"), "{error}");
    let cut = home.path().join("cut.plan");
    let bytes = fs::read(&plan).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused("tiny-llama", &cut).contains("is no plan of fewron, or a damaged one"));
    let none = refused("tiny-llama", &home.path().join("none.plan"));
    assert!(none.contains("`fewron calibrate` makes plans"), "{none}");
    let auto = refused("tiny-llama", Path::new("auto"));
    assert!(auto.contains("there is no plan beside the model"), "{auto}");
}

#[test]
fn without_text_the_model_writes_its_own() {
    let home = tempfile::tempdir().unwrap();
    let record = |more: &[&str]| -> Value {
        let arguments = [&["--sparsity", ".3", "--json"], more].concat();
        let run = calibrate(home.path(), &home.path().join("x.plan"), &arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let questions = home.path().join("questions.jsonl");
    fs::write(&questions, "{\"question\": \"Where is the cat?\"}\n".repeat(3)).unwrap();
    let mixed = format!("self,builtin,{}", questions.display());
    let [own, again, other] = [&[][..], &[], &["--seed", "1"]].map(record);
    assert_eq!(own["calibration"]["data"], "self");
    assert_eq!(own, again);
    assert_ne!(own["calibration"]["sha256"], other["calibration"]["sha256"]);
    assert_eq!(record(&["--data", &mixed])["calibration"]["data"], "self+builtin+questions.jsonl");
}

#[test]
fn sweeps_use_plans_at_their_ratios_and_stand_beside_an_oracle() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let plans = [".3", ".7"].map(|sparsity| {
        let plan = home.path().join(sparsity);
        let run = calibrate(home.path(), &plan, &["--data", "builtin", "--sparsity", sparsity]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        plan.to_str().unwrap().to_owned()
    });
    let sweep = |out: &str, more: &[&str]| -> Value {
        let questions = ["sweep", "tiny-llama", "--limit", "2", "--max-new-tokens", "6", "--out"];
        let out = path(out);
        let run =
            fewron(home.path(), &[&questions[..], &[out.as_str(), "--json", "-"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).unwrap()
    };
    let both = plans.join(",");
    let runtime = ["--protocol", "runtime", "--ratios", ".3,.5,.7", "--plan"];
    let points =
        |plan: &str, out: &str| sweep(out, &[&runtime[..], &[plan]].concat())["points"].clone();
    let (joined, low, high) =
        (points(&both, "both"), points(&plans[0], "low"), points(&plans[1], "high"));
    // Each plan at its own ratio, and one curve of both.
    assert_eq!((&joined[0], &joined[2]), (&low[0], &high[2]));
    assert_ne!(joined[2]["kl"], low[2]["kl"]);
    assert_eq!(joined.as_array().unwrap().len(), 3);

    sweep("oracle", &["--metrics", "cor-gxo", "--ratios", ".5"]);
    let report = |run: &str, beside: &str| {
        let arguments = ["report", &path(run), "--beside", &path(beside), "-o", &path("gap.html")];
        fewron(home.path(), &arguments)
    };
    let run = report("oracle", "both");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let page = fs::read_to_string(path("gap.html")).unwrap();
    assert!(page.contains("cor-gxo · oracle") && page.contains("gate · runtime"));
    let run = report("both", "low");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("an oracle and a runtime sweep"), "{}", run.stderr);
}

#[test]
fn a_loss_can_be_that_of_a_task() {
    let home = tempfile::tempdir().unwrap();
    let plan = home.path().join("x.plan");
    let text = home.path().join("text.txt");
    fs::write(&text, "The cat sat on the mat and looked at the dog. ".repeat(60)).unwrap();
    let task = format!("perplexity={}", text.display());
    let made = |most: &str| {
        let loss = ["--max-loss", most, "--task", &task, "--limit", "2", "--json"];
        let run = calibrate(home.path(), &plan, &loss);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("perplexity perplexity: "), "{}", run.stderr);
        let record: Value = serde_json::from_str(&run.stdout).unwrap();
        let plan = plan.to_str().unwrap();
        let eval =
            ["eval", "tiny-llama", "--task", &task, "--limit", "2", "--plan", plan, "--json", "-"];
        let run = fewron(home.path(), &eval);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let eval: Value = serde_json::from_str(&run.stdout).unwrap();
        let change = &eval["tasks"][0]["results"][1]["metrics"][0]["change"]["mean"];
        (record["sparsity"].as_f64().unwrap(), change.as_f64().unwrap())
    };
    let [(low, loss), (high, more)] = ["5%", "60%"].map(made);
    assert!(loss <= 0.05 && more <= 0.6, "{loss} {more}");
    assert!(low < high, "{low} {high}");
}

#[test]
fn bad_wishes_cost_nothing() {
    let home = tempfile::tempdir().unwrap();
    let error = |more: &[&str]| {
        let run = calibrate(home.path(), &home.path().join("x.plan"), more);
        assert_eq!(run.code, 2, "{}", run.stderr);
        run.stderr
    };
    assert!(error(&["--policy", "dense"]).contains("needs no plan"));
    assert!(error(&["--select", "global"]).contains("--select threshold or layer"));
    assert!(error(&["--data", "none.txt"]).contains("cannot read data file none.txt"));
    assert!(error(&["--task", "piqa=x"]).contains("--max-loss"));
    let message = error(&["--max-loss", "5%", "--task", "piqa=none.jsonl"]);
    assert!(message.contains("none.jsonl"), "{message}");
    assert!(error(&["--max-loss", "no"]).contains("write 5% or 0.05"));
    let phi = fewron(home.path(), &["generate", "tiny-phi", "-p", "x", "--policy", "predict"]);
    assert!(phi.stderr.contains("needs a plan: make one with `fewron calibrate"), "{}", phi.stderr);
}

#[test]
fn plans_that_come_with_fewron_go_by_name() {
    let home = tempfile::tempdir().unwrap();
    let generate = |plan: &str| {
        let arguments = ["generate", "tiny-phi", "-p", "The cat", "--raw", "-n", "4", "--stats"];
        fewron(home.path(), &[&arguments[..], &["--plan", plan]].concat())
    };
    let run = generate("tiny-phi-70");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("predict, 70% off"), "{}", run.stderr);
    let run = generate("auto");
    assert!(run.stderr.contains(", and with fewron comes --plan tiny-phi-70"), "{}", run.stderr);
    let run = generate("tiny-phi-7");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("tiny-phi-7 (did you mean `tiny-phi-70`?);"), "{}", run.stderr);

    let run = fewron(home.path(), &["inspect", "tiny-phi-70", "--json"]);
    let record: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(record["policy"], "predict");
    let gone = [("FEWRON_SOURCE", "/nowhere")];
    let run = fewron_env(home.path(), &gone, &["inspect", "tiny-phi-70"]);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
    assert!(run.stderr.contains("/nowhere/plans/tiny-phi-70.plan; set FEWRON_SOURCE"));
    let run = fewron_env(home.path(), &gone, &["models"]);
    assert!(run.stdout.contains("the source is gone"), "{}", run.stdout);
}
