//! The page and the files of neuron analytics.

#[allow(unreachable_pub)]
mod markup;

use std::fs::{self, File};
use std::path::Path;

use fewron_eval::neurons::NeuronResult;
use fewron_eval::neurons::record::{
    CardCategory, CardMask, CategoryOverlap, CategoryRecord, Context, Kind, LayerRecord,
    LayerScore, MaskOverlap, MaskRecord, MaskUnits, Means, NeuronCard, NeuronRun, Overlap, Pair,
    SpecificUnit, Specificity, Stored, TokenWeight,
};
use fewron_eval::record::{DataRecord, ModelRecord, Settings};
use fewron_report::html::render_neurons;
use fewron_report::{write_neuron_report, write_neurons};
use markup::assert_well_formed;
use parquet::file::reader::{FileReader, SerializedFileReader};

const LAYERS: usize = 3;
const NEURONS: usize = 40;

fn overlap(jaccard: f64) -> Overlap {
    Overlap { jaccard: Some(jaccard), chance: Some(0.11), pairs: 90 }
}

fn layer(layer: usize) -> LayerRecord {
    LayerRecord {
        kind: Kind::Mlp,
        layer,
        kept: 0.2,
        dead: 4,
        hot: 2 + layer,
        stability: overlap(0.3 + layer as f64 / 10.0),
        between: overlap(0.2),
        score: Some(LayerScore { share: [0.5, 0.3, 0.2][layer], absolute: 2.0, signed: -0.5 }),
    }
}

fn specificity(category: &str) -> Specificity {
    let unit = SpecificUnit { layer: 1, unit: 7, inside: 0.9, outside: 0.1, z: 6.5, p: 0.002 };
    Specificity {
        category: category.to_owned(),
        kind: Kind::Mlp,
        rms_z: vec![None, Some(2.4), Some(1.0)],
        significant: 1,
        units: vec![unit],
    }
}

fn mask(name: &str, protocol: &str, categories: &[&str]) -> MaskRecord {
    let pair = Pair { kind: Kind::Mlp, layer: 2, a: 3, b: 9, both: 12, lift: 2.5, phi: 0.81 };
    MaskRecord {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        layers: (0..LAYERS).map(layer).collect(),
        mlp: vec![(0..NEURONS).map(|n| (n * 6) as u8).collect(); LAYERS],
        heads: Vec::new(),
        pairs: vec![pair],
        specificity: categories.iter().map(|category| specificity(category)).collect(),
        category_overlap: vec![CategoryOverlap {
            a: categories[0].to_owned(),
            b: categories[1].to_owned(),
            kind: Kind::Mlp,
            jaccard: 0.61,
            shuffled: 0.72,
        }],
    }
}

fn card() -> NeuronCard {
    let token = |text: &str| TokenWeight { token: 3, text: text.to_owned(), weight: 0.5 };
    NeuronCard {
        layer: 1,
        neuron: 7,
        output: -0.2,
        output_abs: 0.6,
        masks: vec![CardMask {
            name: "cor-gxo".to_owned(),
            kept: 0.25,
            score: Some(0.01),
            categories: vec![CardCategory {
                category: "Law".to_owned(),
                inside: 0.9,
                outside: 0.1,
                z: 6.5,
                p: 0.002,
            }],
        }],
        contexts: vec![Context {
            output: 4.5,
            sample: 2,
            question: "May I?".to_owned(),
            before: "You must".to_owned(),
            token: " not".to_owned(),
            after: " do it".to_owned(),
        }],
        promoted: vec![token(" never")],
        suppressed: vec![token(" always")],
    }
}

fn run() -> NeuronRun {
    let categories = ["Law", "Health"];
    let record = |name: &&str| CategoryRecord { name: (*name).to_owned(), answers: 6, tokens: 60 };
    NeuronRun {
        model: ModelRecord {
            name: "tiny".to_owned(),
            sha256: "ab".repeat(32),
            arch: "llama".to_owned(),
            parameters: 1_000,
        },
        data: DataRecord {
            name: "q.csv".to_owned(),
            sha256: "cd".repeat(32),
            samples: 12,
            tokens: 120,
        },
        seed: 0,
        settings: Settings {
            version: "0.1.0".to_owned(),
            command: "fewron neurons tiny".to_owned(),
            scope: "mlp".to_owned(),
            selection: "layer".to_owned(),
            correction: 0.5,
            ig_steps: 20,
            max_new_tokens: 11,
            raw: false,
            cpu: "test".to_owned(),
            threads: 2,
            wall_s: 3.0,
            finished_at: "2026-01-01T00:00:00Z".to_owned(),
        },
        ratio: 0.8,
        layers: LAYERS,
        neurons: NEURONS,
        heads: 4,
        stored: Stored { answers: 12, tokens: 120 },
        categories: categories.iter().map(record).collect(),
        masks: vec![
            mask("cor-gxo", "oracle", &categories),
            mask("gate policy", "runtime", &categories),
        ],
        overlap: vec![MaskOverlap {
            a: "cor-gxo".to_owned(),
            b: "gate policy".to_owned(),
            kind: Kind::Mlp,
            layers: (0..LAYERS).map(|l| overlap(0.4 - l as f64 / 10.0)).collect(),
        }],
        cards: vec![card()],
    }
}

fn result() -> NeuronResult {
    let all = LAYERS * NEURONS;
    let units = |name: &str, scored: bool| MaskUnits {
        name: name.to_owned(),
        kind: Some(Kind::Mlp),
        units: NEURONS,
        tokens: 120,
        kept: (0..all as u32).collect(),
        by_category: vec![vec![30; all], vec![15; all]],
        scores: match scored {
            true => Means { signed: vec![-0.5; all], absolute: vec![1.5; all] },
            false => Means::default(),
        },
        outputs: Means { signed: vec![0.25; all], absolute: vec![0.75; all] },
    };
    NeuronResult { run: run(), units: vec![units("cor-gxo", true), units("gate policy", false)] }
}

/// Rows of a Parquet file as CSV would have them.
fn rows(path: &Path) -> Vec<String> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let names: Vec<String> = {
        let schema = reader.metadata().file_metadata().schema_descr();
        schema.columns().iter().map(|column| column.name().to_owned()).collect()
    };
    let text = |field: &parquet::record::Field| match field {
        parquet::record::Field::Str(text) => text.clone(),
        parquet::record::Field::Int(n) => n.to_string(),
        parquet::record::Field::Long(n) => n.to_string(),
        parquet::record::Field::Float(n) => n.to_string(),
        parquet::record::Field::Double(n) if n.is_nan() => String::new(),
        parquet::record::Field::Double(n) => n.to_string(),
        other => panic!("{other}"),
    };
    let line = |row: parquet::record::Row| {
        row.get_column_iter().map(|(_, field)| text(field)).collect::<Vec<_>>().join(",")
    };
    let rows = reader.get_row_iter(None).unwrap().map(|row| line(row.unwrap()));
    std::iter::once(names.join(",")).chain(rows).collect()
}

#[test]
fn parquet_files_read_back_as_their_csv() {
    let folder = tempfile::tempdir().unwrap();
    write_neurons(&result(), folder.path()).unwrap();
    for (name, count) in [("neurons", 240), ("categories", 240), ("pairs", 2)] {
        let csv = fs::read_to_string(folder.path().join(format!("{name}.csv"))).unwrap();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), count + 1, "{name}");
        assert_eq!(rows(&folder.path().join(format!("{name}.parquet"))), lines, "{name}");
    }
    let csv = fs::read_to_string(folder.path().join("neurons.csv")).unwrap();
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some("mask,kind,layer,unit,steps,kept_steps,kept,score,score_abs,output,output_abs")
    );
    assert_eq!(lines.nth(60), Some("cor-gxo,mlp,1,20,120,60,0.5,-0.5,1.5,0.25,0.75"));
    assert_eq!(lines.last(), Some("gate policy,mlp,2,39,120,119,0.9916667,,,0.25,0.75"));
    let categories = fs::read_to_string(folder.path().join("categories.csv")).unwrap();
    assert_eq!(categories.lines().next(), Some("mask,kind,layer,unit,Law,Health"));
    assert_eq!(categories.lines().nth(1), Some("cor-gxo,mlp,0,0,0.5,0.25"));
    let layers = fs::read_to_string(folder.path().join("layers.csv")).unwrap();
    assert_eq!(layers.lines().count(), 1 + 2 * LAYERS);
    let contexts = fs::read_to_string(folder.path().join("contexts.jsonl")).unwrap();
    let context: serde_json::Value = serde_json::from_str(contexts.trim()).unwrap();
    assert_eq!((&context["token"], &context["rank"]), (&" not".into(), &1.into()));
}

#[test]
fn files_of_data_without_categories_and_cards() {
    let folder = tempfile::tempdir().unwrap();
    let mut result = result();
    result.run.categories.clear();
    result.run.cards.clear();
    write_neurons(&result, folder.path()).unwrap();
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["layers.csv", "neurons.csv", "neurons.parquet", "pairs.csv", "pairs.parquet"]
    );
}

#[test]
fn a_page_answers_its_questions_with_the_numbers_of_the_run() {
    let page = render_neurons(&run());
    assert_well_formed(&page);
    for text in [
        "How often is each neuron kept?",
        "Do neighbouring tokens keep the same neurons?",
        "Which layers tell the categories apart?",
        "layer 1, neuron 7",
        "+6.5",
        "<mark> not</mark>",
        "␣never",
        "cor-gxo keeps 8% of the MLP neurons nearly always and 10% never",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // Every figure has its numbers as a file, and every picture a text.
    let buttons = page.matches("data-csv=").count();
    assert_eq!(buttons, page.matches("<figure").count());
    let charts: Vec<&str> = page.split("role=\"img\"").skip(1).collect();
    assert!(charts.len() > 8, "{} pictures", charts.len());
    for chart in charts {
        let label = chart.split("aria-label=\"").nth(1).unwrap();
        assert!(label.find('"').unwrap() > 10);
    }
}

#[test]
fn pages_of_less_are_well_formed_too() {
    let mut bare = run();
    bare.categories.clear();
    bare.cards.clear();
    bare.overlap.clear();
    for mask in &mut bare.masks {
        mask.pairs.clear();
        mask.specificity.clear();
        mask.category_overlap.clear();
    }
    let mut heads = run();
    for mask in &mut heads.masks {
        mask.mlp.clear();
        mask.heads = vec![vec![0, 100, 255, 7]; LAYERS];
        mask.layers.iter_mut().for_each(|layer| {
            layer.kind = Kind::Head;
            layer.score = None;
            layer.stability = Overlap::default();
        });
    }
    let mut untested = run();
    untested.masks.iter_mut().for_each(|mask| mask.specificity.clear());
    let mut empty = run();
    empty.masks.clear();
    empty.overlap.clear();
    for run in [bare, heads, untested, empty] {
        let page = render_neurons(&run);
        assert_well_formed(&page);
        let shown = &page[..page.find("<script").unwrap()];
        for none in ["NaN", ">inf", "\"inf", "-inf"] {
            assert!(!shown.contains(none), "{none} is shown");
        }
    }
}

#[test]
fn text_of_the_run_is_never_markup() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let mut run = run();
    run.model.name = evil.to_owned();
    run.data.name = evil.to_owned();
    run.settings.command = evil.to_owned();
    run.categories[0].name = evil.to_owned();
    run.masks[0].name = evil.to_owned();
    run.masks[0].specificity[0].category = evil.to_owned();
    run.masks[0].category_overlap[0].a = evil.to_owned();
    run.overlap[0].a = evil.to_owned();
    run.cards[0].contexts[0].before = evil.to_owned();
    run.cards[0].contexts[0].question = evil.to_owned();
    run.cards[0].promoted[0].text = evil.to_owned();
    run.cards[0].masks[0].name = evil.to_owned();
    let page = render_neurons(&run);
    assert_well_formed(&page);
    assert!(!page.contains("<img") && !page.contains("<script>alert"), "markup got through");
    assert_eq!(page.matches("<script").count(), 2, "the data and the script of the page");
}

#[test]
fn nothing_is_fetched_and_a_written_page_is_the_rendered_one() {
    let page = render_neurons(&run());
    for fetching in ["<link", "<iframe", "<img", " src=", "@import", "url(", "fetch(", " style=\""]
    {
        assert!(!page.contains(fetching), "{fetching}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("unsafe-inline"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    write_neuron_report(&run(), &path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
    let missing = folder.path().join("none/report.html");
    assert!(
        write_neuron_report(&run(), &missing)
            .unwrap_err()
            .to_string()
            .contains("create the folder")
    );
}

#[test]
fn a_page_of_a_large_model_stays_small() {
    let mut large = run();
    large.layers = 32;
    large.neurons = 10_240;
    for mask in &mut large.masks {
        mask.mlp = vec![vec![128; 10_240]; 32];
    }
    assert!(render_neurons(&large).len() < 2_500_000);
}
