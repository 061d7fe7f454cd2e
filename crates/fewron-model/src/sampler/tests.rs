use super::*;

fn sampler(config: SamplerConfig) -> Sampler {
    Sampler::new(config).unwrap()
}

/// Counts of 20,000 draws with a fixed seed.
fn counts(config: SamplerConfig, logits: &[f32]) -> Vec<u32> {
    let mut s = sampler(config);
    let mut out = vec![0; logits.len()];
    for _ in 0..20_000 {
        out[s.sample(logits, &[]) as usize] += 1;
    }
    out
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let e: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / temperature).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|x| x / total).collect()
}

fn chi_square(counts: &[u32], p: &[f64]) -> f64 {
    let n = f64::from(counts.iter().sum::<u32>());
    counts.iter().zip(p).map(|(&c, p)| (f64::from(c) - n * p).powi(2) / (n * p)).sum()
}

/// Tokens left by a naive top-k, top-p, min-p, in that order, at temperature 1.
fn naive_kept(logits: &[f32], c: &SamplerConfig) -> Vec<u32> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
    if c.top_k > 0 {
        order.truncate(c.top_k);
    }
    let p = softmax(&order.iter().map(|&i| logits[i]).collect::<Vec<f32>>(), 1.0);
    let mut kept = Vec::new();
    let mut before = 0.0;
    for (rank, &id) in order.iter().enumerate() {
        let in_nucleus = c.top_p >= 1.0 || before < f64::from(c.top_p);
        if rank == 0 || (in_nucleus && p[rank] >= f64::from(c.min_p) * p[0]) {
            kept.push(id as u32);
        }
        before += p[rank];
    }
    kept.sort_unstable();
    kept
}

#[test]
fn greedy_takes_the_lowest_of_equals_and_survives_nan() {
    let mut greedy = sampler(SamplerConfig::default());
    for (logits, expected) in [
        (&[1.0, 3.0, 3.0, 2.0][..], 1),
        (&[f32::NAN, -1.0, -0.5], 2),
        (&[f32::NAN, f32::NAN], 0),
        (&[f32::NEG_INFINITY, f32::NEG_INFINITY], 0),
        (&[0.0, f32::INFINITY, f32::INFINITY], 1),
        (&[-0.0, 0.0], 0),
        (&[], 0),
    ] {
        assert_eq!(greedy.sample(logits, &[]), expected, "{logits:?}");
        assert_eq!(argmax(logits), expected, "{logits:?}");
    }
}

#[test]
fn draws_follow_the_softmax_at_the_temperature() {
    let logits = [1.0, 0.0, -1.0, 2.0, 0.5, -0.3];
    for temperature in [0.5, 1.0, 1.7] {
        let seen = counts(SamplerConfig { temperature, seed: 7, ..Default::default() }, &logits);
        let expected = softmax(&logits, f64::from(temperature));
        // The 99.9% point of chi-square with 5 degrees of freedom is 20.5.
        let statistic = chi_square(&seen, &expected);
        assert!(statistic < 20.5, "temperature {temperature}: {statistic}");
        // The test can fail: another temperature's distribution is far off.
        assert!(chi_square(&seen, &softmax(&logits, f64::from(temperature) * 1.2)) > 20.5);
    }
}

#[test]
fn truncation_keeps_what_the_definition_keeps() {
    let logits = [0.3, 2.0, -1.0, 1.9, 0.3, -4.0, 1.0, 0.0];
    for top_k in [0, 1, 3, 5, 20] {
        for top_p in [0.05, 0.4, 0.75, 0.9, 1.0] {
            for min_p in [0.0, 0.1, 0.37, 1.0] {
                let config =
                    SamplerConfig { temperature: 5.0, top_k, top_p, min_p, ..Default::default() };
                let expected = naive_kept(&logits, &config);
                let seen = counts(config.clone(), &logits);
                let kept: Vec<u32> = (0..8).filter(|&i| seen[i as usize] > 0).collect();
                assert_eq!(kept, expected, "{config:?}");
            }
        }
    }
}

#[test]
fn survivors_keep_their_proportions() {
    let logits = [1.0, 0.0, -1.0, 2.0];
    let config = SamplerConfig { temperature: 1.0, top_k: 2, seed: 3, ..Default::default() };
    let seen = counts(config, &logits);
    let p = softmax(&[1.0, 2.0], 1.0);
    assert!(chi_square(&[seen[0], seen[3]], &p) < 10.8);
}

#[test]
fn repetition_penalty_divides_above_zero_and_multiplies_below() {
    let config =
        SamplerConfig { repetition_penalty: 2.0, repetition_window: 2, ..Default::default() };
    let mut s = sampler(config);
    assert_eq!(s.sample(&[3.0, 2.0], &[0]), 1);
    assert_eq!(s.sample(&[3.0, 1.4], &[0]), 0, "3 / 2 is above 1.4");
    assert_eq!(s.sample(&[-1.0, -1.5], &[0]), 1, "-1 * 2 is below -1.5");
    assert_eq!(s.sample(&[3.0, 2.0], &[0, 0, 0]), 1);
    assert_eq!(s.sample(&[3.0, 1.4], &[0, 0]), 0, "a token counts once");
    assert_eq!(s.sample(&[3.0, 2.0], &[0, 1, 1]), 0, "token 0 has left the window");
    assert_eq!(s.sample(&[3.0, 2.0], &[9]), 0, "ids beyond the logits are ignored");
}

#[test]
fn equal_seeds_draw_equally() {
    let draws = |seed| {
        let mut s = sampler(SamplerConfig { temperature: 1.0, seed, ..Default::default() });
        (0..50).map(|_| s.sample(&[0.0; 100], &[])).collect::<Vec<u32>>()
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
}

#[test]
fn odd_logits_never_panic() {
    let config = SamplerConfig {
        temperature: 1.0,
        top_k: 2,
        top_p: 0.9,
        min_p: 0.1,
        repetition_penalty: 1.3,
        ..Default::default()
    };
    let mut s = sampler(config);
    let nan = f32::NAN;
    for logits in [&[][..], &[nan, nan, nan], &[nan, 1.0], &[f32::INFINITY, nan, f32::INFINITY]] {
        let id = s.sample(logits, &[0, 7]) as usize;
        assert!(logits.is_empty() || id < logits.len());
        assert!(!logits.contains(&1.0) || id == 1);
    }
    let mut free = sampler(SamplerConfig { temperature: 1e-30, ..Default::default() });
    assert_eq!(free.sample(&[1.0, f32::NEG_INFINITY, 1.5], &[]), 2);
}

#[test]
fn settings_out_of_range_are_named() {
    let base = SamplerConfig::default;
    let message = |c| Sampler::new(c).unwrap_err().to_string();
    assert_eq!(
        message(SamplerConfig { temperature: -1.0, ..base() }),
        "temperature must be from 0 to 100, got -1"
    );
    assert!(message(SamplerConfig { temperature: f32::NAN, ..base() }).starts_with("temperature"));
    assert!(message(SamplerConfig { top_p: 0.0, ..base() }).starts_with("top_p"));
    assert!(message(SamplerConfig { top_p: 1.1, ..base() }).starts_with("top_p"));
    assert!(message(SamplerConfig { min_p: 1.5, ..base() }).starts_with("min_p"));
    assert!(message(SamplerConfig { repetition_penalty: 0.0, ..base() }).starts_with("repetition"));
}
