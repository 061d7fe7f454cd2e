use super::*;
use rand::RngExt;

const INPUTS: usize = 24;
const NEURONS: usize = 80;
const COUNT: usize = 24;

/// Tokens whose neurons matter by a rule of rank 4, the same for every seed.
fn planted(tokens: usize, seed: u64) -> Examples {
    let noise = |rng: &mut ChaCha8Rng| 2.0 * rng.random::<f32>() - 1.0;
    let mut rule = ChaCha8Rng::seed_from_u64(99);
    let first: Vec<f32> = (0..4 * INPUTS).map(|_| noise(&mut rule)).collect();
    let second: Vec<f32> = (0..NEURONS * 4).map(|_| noise(&mut rule)).collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut examples = Examples::new(INPUTS, NEURONS);
    for _ in 0..tokens {
        let x: Vec<f32> = (0..INPUTS).map(|_| noise(&mut rng)).collect();
        let reduced: Vec<f32> = first.chunks(INPUTS).map(|row| dot(row, &x)).collect();
        let scores: Vec<f32> = second.chunks(4).map(|row| dot(row, &reduced)).collect();
        // What the rule does not say: inputs have an offset and a size of their own.
        let x: Vec<f32> = x.iter().zip(1..).map(|(x, i)| 3.0 + x * i as f32).collect();
        examples.add(&x, &scores, COUNT);
    }
    examples
}

fn training() -> Training {
    Training { rank: 4, epochs: 4, rate: 0.001, seed: 5 }
}

#[test]
fn a_rule_of_low_rank_is_learned() {
    let stop = AtomicBool::new(false);
    let trained = train(&training(), &planted(2048, 1), &planted(256, 2), &stop).unwrap();
    assert!(trained.recall > 0.9, "{}", trained.recall);
    // On tokens that were neither trained nor stopped on, with the weights that are returned.
    let fresh = planted(256, 3);
    let network = Network {
        first: nalgebra::DMatrix::from_row_slice(4, INPUTS, &trained.factors.first),
        second: nalgebra::DMatrix::from_row_slice(NEURONS, 4, &trained.factors.second),
        bias: nalgebra::DVector::from_vec(trained.factors.bias),
    };
    let unscaled = Scale { mean: vec![0.0; INPUTS], scale: vec![1.0; INPUTS] };
    let found = recall(&network, &fresh, &unscaled);
    assert!(found > 0.9, "{found}");
}

#[test]
fn steps_improve_on_the_regression() {
    let stop = AtomicBool::new(false);
    let (examples, held_out) = (planted(2048, 1), planted(256, 2));
    let none = Training { epochs: 0, ..training() };
    let regression = train(&none, &examples, &held_out, &stop).unwrap().recall;
    let trained = train(&training(), &examples, &held_out, &stop).unwrap().recall;
    // Where nothing is known, 24 of 80 are found.
    assert!(regression > 0.5 && trained > regression, "{regression} {trained}");
}

#[test]
fn a_seed_gives_the_same_weights() {
    let stop = AtomicBool::new(false);
    let (examples, held_out) = (planted(512, 1), planted(64, 2));
    let run = |seed| {
        let training = Training { seed, epochs: 2, ..training() };
        train(&training, &examples, &held_out, &stop).unwrap().factors
    };
    let (a, b, other) = (run(1), run(1), run(2));
    assert_eq!((&a.first, &a.second, &a.bias), (&b.first, &b.second, &b.bias));
    assert_ne!(a.first, other.first);
}

#[test]
fn examples_that_say_nothing_are_an_error() {
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(true));
    let (none, some) = (Examples::new(INPUTS, NEURONS), planted(64, 1));
    assert!(matches!(train(&training(), &none, &some, &go), Err(TrainError::Unusable)));
    assert!(matches!(train(&training(), &some, &some, &stop), Err(TrainError::Stopped)));
    let mut broken = some.clone();
    broken.add(&[f32::NAN; INPUTS], &[0.0; NEURONS], COUNT);
    assert!(matches!(train(&training(), &broken, &some, &go), Err(TrainError::Unusable)));
}
