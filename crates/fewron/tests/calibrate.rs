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
    calibrate_model("tiny-llama", home, plan, more)
}

fn calibrate_model(model: &str, home: &Path, plan: &Path, more: &[&str]) -> support::Run {
    let mut arguments = vec!["calibrate", model, "--tokens", "1024", "--weighting", "rms"];
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

/// The plan with two norms in place of the model's: what `recover` writes, without edits.
fn recovered(plan: &Path, to: &Path, norm: f32) {
    let values: Vec<u8> = [norm; 160].iter().flat_map(|value| value.to_le_bytes()).collect();
    let norms = ["norm.output", "norm.0.attn_norm"].map(|name| (name, Dtype::F32, 160, &*values));
    changing(plan, to, &norms);
}

/// The plan with more tensors of one dimension, as one of format 2.
fn changing(plan: &Path, to: &Path, more: &[(&str, Dtype, usize, &[u8])]) {
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
    let view = |&(name, dtype, len, data): &(&str, Dtype, usize, _)| {
        (name.to_owned(), TensorView::new(dtype, vec![len], data).unwrap())
    };
    let tensors = file.tensors().into_iter().chain(more.iter().map(view));
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
    let sweep = ["sweep", "tiny-llama", "--protocol", "runtime", "--limit", "1", "--plan", half];
    let run = fewron(home.path(), &sweep);
    assert_eq!(run.code, 2, "{}", run.stdout);
    assert!(run.stderr.contains("changes the model's weights"), "{}", run.stderr);
}

#[test]
fn dense_is_the_original_beside_recovered_plans() {
    let home = tempfile::tempdir().unwrap();
    let [plan, half, twice] = ["plan", "half", "twice"].map(|name| home.path().join(name));
    let run = calibrate(home.path(), &plan, &["--sparsity", ".5", "--uniform"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    recovered(&plan, &half, 0.5);
    recovered(&plan, &twice, 2.0);
    let [plan, half, twice] = [&plan, &half, &twice].map(|path| path.to_str().unwrap());
    let text = home.path().join("text.txt");
    fs::write(&text, "The cat sat on the mat and looked at the dog. ".repeat(30)).unwrap();
    let task = format!("perplexity={}", text.display());
    let run = |more: &[&str]| {
        let eval = ["eval", "tiny-llama", "--task", &task, "--limit", "3", "--json", "-"];
        fewron(home.path(), &[&eval, more].concat())
    };
    // Names of the variants and, by name, what each makes of all samples.
    let eval = |more: &[&str]| {
        let run = run(more);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(!run.stderr.contains("changes the model's weights"), "{}", run.stderr);
        let eval: Value = serde_json::from_str(&run.stdout).unwrap();
        let names: Vec<String> = serde_json::from_value(eval["variants"].clone()).unwrap();
        let samples = eval["tasks"][0]["samples"].as_array().unwrap().clone();
        let of = |lane: usize| -> Vec<Value> {
            samples.iter().map(|sample| sample["variants"][lane].clone()).collect()
        };
        let outcomes = (0..names.len()).map(of).collect::<Vec<_>>();
        (names, outcomes)
    };
    let (names, all) = eval(&["--plan", half, "--plan", twice, "--plan", plan, "--unmasked"]);
    assert_eq!(names, ["dense", "half", "half unmasked", "twice", "twice unmasked", "plan"]);
    assert_eq!(all[0].len(), 2);
    assert_eq!(all[0], eval(&[]).1[0]);
    let alone = |path: &str| eval(&["--plan", path]).1[1].clone();
    assert_eq!([&all[1], &all[3], &all[5]], [&alone(half), &alone(twice), &alone(plan)]);
    assert_eq!(all[4], eval(&["--plan", twice, "--unmasked"]).1[2]);
    let nll = |lane: usize| all[lane][0]["nll"].as_f64().unwrap();
    assert!((0..6).all(|a| (0..a).all(|b| nll(a) != nll(b))), "{:?}", [0, 1, 2, 3, 4, 5].map(nll));
    let budget = run(&["--plan", half, "--unmasked", "--resident-budget", "2"]);
    assert_eq!(budget.code, 0, "{}", budget.stderr);
    assert!(budget.stderr.contains("2 models share --resident-budget"), "{}", budget.stderr);
    let none = run(&["--plan", plan, "--unmasked"]);
    assert_eq!(none.code, 2, "{}", none.stdout);
    assert!(none.stderr.contains("none of these plans changes any"), "{}", none.stderr);
    let bench = ["bench", "tiny-llama", "--prefill", "0", "--kv", "0,4", "--decode", "4"];
    let run = fewron(home.path(), &[&bench[..], &["--plan", half, "--plan", twice]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("half") && run.stdout.contains("twice"), "{}", run.stdout);
}

#[test]
fn a_merged_file_is_the_recovered_model() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let [model, merged, masks] = ["tiny.gguf", "merged.gguf", "masks.plan"].map(path);
    let [plan, recovered] = ["plan", "recovered"].map(path);
    let fewron = |arguments: &[&str]| fewron(home.path(), arguments);
    let done = |arguments: &[&str]| {
        let run = fewron(arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run
    };
    done(&["convert", "tiny-llama", &model, "--type", "q4_0"]);
    let more = ["--sparsity", ".5", "--uniform"];
    let run = calibrate_model(&model, home.path(), Path::new(&plan), &more);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // The first 2,000 codes get smaller by 1: gaps of 0 and signs of 1, four edits in a byte.
    let edits = [&[0xd0, 7, 0, 0, 0, 1, 0, 0][..], &[0xaa; 500]].concat();
    let norm: Vec<u8> = [1.5f32; 160].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = [
        ("edits.0.q", Dtype::U8, edits.len(), &*edits),
        ("edits.1.up", Dtype::U8, edits.len(), &*edits),
        ("norm.1.attn_norm", Dtype::F32, 160, &*norm),
    ];
    changing(Path::new(&plan), Path::new(&recovered), &tensors);

    let run = done(&["convert", &model, &merged, "--plan", &recovered]);
    assert!(run.stderr.contains("--mask-out writes its masks"), "{}", run.stderr);
    let convert = ["convert", &model, &merged, "--plan", &recovered, "--mask-out", &masks];
    assert!(fewron(&convert).stderr.contains("is there already"));
    let run = done(&[&convert[..], &["--force"]].concat());
    assert_eq!(run.stderr, "");
    assert!(run.stdout.starts_with(&format!("{merged}: ")), "{}", run.stdout);

    let text = path("text.txt");
    fs::write(&text, "The cat sat on the mat and looked at the dog. ".repeat(30)).unwrap();
    let score = |arguments: &[&str]| {
        let score = ["score", "--text-file", &text, "--json"];
        let run = done(&[&score[..], arguments].concat());
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        (json["logprobs"].clone(), json["active"].clone())
    };
    let sparse = score(&[&model, "--plan", &recovered]);
    assert_eq!(score(&[&merged, "--plan", &masks]), sparse);
    assert_ne!(score(&[&model, "--plan", &plan]), sparse);
    assert_ne!(score(&[&merged]).0, score(&[&model]).0);
    let task = format!("perplexity={text}");
    let eval = |arguments: &[&str], lane: usize| {
        let run = done(&[&["eval", "--task", &task, "--json", "-"], arguments].concat());
        let json: Value = serde_json::from_str(&run.stdout).unwrap();
        let samples = json["tasks"][0]["samples"].as_array().unwrap().clone();
        let nll = |sample: &Value| sample["variants"][lane]["nll"].clone();
        samples.iter().map(nll).collect::<Vec<Value>>()
    };
    let unmasked = eval(&[&model, "--plan", &recovered, "--unmasked"], 2);
    assert_eq!(eval(&[&merged], 0), unmasked);
    assert_eq!(eval(&[&model, "--plan", &recovered], 1), eval(&[&merged, "--plan", &masks], 1));

    let refused = |arguments: &[&str]| {
        let run = fewron(&[&["convert"], arguments, &["--force"]].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
        run.stderr
    };
    let out = path("out.gguf");
    for (arguments, problem) in [
        (&[&model, &out, "--plan", &plan][..], "changes no weights, so there is nothing to merge"),
        (&[&merged, &out, "--plan", &recovered], "was made for model tiny.gguf"),
        (&["tiny-llama", &out, "--plan", &recovered], "is a Hugging Face directory"),
        (&[&model, &recovered, "--plan", &recovered], "is the file that is read"),
        (&[&model, &out, "--plan", &recovered, "--mask-out", &out], "cannot both be"),
        (&[&model, &out, "--plan", &recovered, "--type", "q8_0"], "cannot be used with"),
        (&[&model, &out, "--plan", "auto"], "there is no plan beside the model"),
        (&[&model, &out], "--plan with what a recovered plan changes"),
    ] {
        let error = refused(arguments);
        assert!(error.contains(problem), "{error}");
    }
    assert!(!Path::new(&out).exists());
    fs::copy(&recovered, format!("{model}.fewron")).unwrap();
    done(&["convert", &model, &out, "--plan", "auto"]);
    assert_eq!(fs::read(&out).unwrap(), fs::read(&merged).unwrap());
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
    let changing = home.path().join("changing.plan");
    recovered(&plan, &changing, 2.0);
    let error = refused("tiny-qwen3", &changing);
    assert!(error.contains("was made for model tiny-llama"), "{error}");
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
