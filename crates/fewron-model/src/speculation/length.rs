//! How many tokens are drafted before a verification.

use std::time::Duration;

/// Tokens of a draft, at most, where the length adapts.
const LONGEST: usize = 8;

/// Weight of the newest observation in a running mean.
const NEWEST: f64 = 0.1;

/// Dense steps between two drafts where drafts do not pay: so many at first, twice as many each time, up
/// to the second number.
const REST: (usize, usize) = (32, 512);

/// How long drafts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftLength {
    /// As long as pays by the recent rate of acceptance, and none for a while where none pays.
    ///
    /// Greedy text goes by measured times too, which do not change it. Drawn text does not: the length
    /// of a draft changes what is drawn, and equal seeds are to draw equally.
    Adaptive,
    /// This many tokens.
    Fixed(usize),
}

/// What running a token costs, in any unit.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// A dense token alone.
    step: f64,
    /// A masked token.
    draft: f64,
    /// A verification's first token, and each one more.
    verify: (f64, f64),
}

/// What drawn text assumes: half of a token's time saved by the mask, and tokens of a batch at a fifth.
const ASSUMED: Costs = Costs { step: 1.0, draft: 0.5, verify: (1.0, 0.2) };

/// Chooses lengths by what was observed.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    length: DraftLength,
    /// Probability that a draft is accepted.
    acceptance: f64,
    /// Mean seconds of a dense token alone and of a drafted token.
    step: Option<f64>,
    draft: Option<f64>,
    /// Mean seconds of verifications by their tokens, from 2 on.
    verify: [Option<f64>; LONGEST],
    /// Dense steps before the next draft.
    rest: usize,
    /// How many there are where the next draft does not pay.
    next_rest: usize,
}

impl Pace {
    pub(super) fn new(length: DraftLength) -> Self {
        let verify = [None; LONGEST];
        Self {
            length,
            acceptance: 0.8,
            step: None,
            draft: None,
            verify,
            rest: 0,
            next_rest: REST.0,
        }
    }

    /// Tokens to draft now; 0 for a dense step.
    pub(super) fn next(&mut self, greedy: bool) -> usize {
        match (self.length, greedy) {
            (DraftLength::Fixed(length), _) => length,
            (DraftLength::Adaptive, false) => best(self.acceptance, &ASSUMED).0.max(1),
            (DraftLength::Adaptive, true) => self.measured(),
        }
    }

    /// By the clock: a dense step and drafts of two lengths come first, then what pays.
    fn measured(&mut self) -> usize {
        if self.rest > 0 {
            self.rest -= 1;
            return 0;
        }
        let (Some(step), Some(draft)) = (self.step, self.draft) else {
            return usize::from(self.step.is_some());
        };
        let Some(verify) = self.line() else { return 3 };
        let costs = Costs { step, draft, verify };
        let (length, pays) = best(self.acceptance, &costs);
        if pays {
            self.next_rest = REST.0;
        } else {
            self.rest = self.next_rest;
            self.next_rest = REST.1.min(2 * self.next_rest);
        }
        length
    }

    /// The line through the mean times of the shortest and the longest verification.
    fn line(&self) -> Option<(f64, f64)> {
        let mut known = self.verify.iter().enumerate().filter_map(|(at, s)| s.map(|s| (at, s)));
        let (first, least) = known.next()?;
        let (last, most) = known.next_back()?;
        let more = ((most - least) / (last - first) as f64).max(0.0);
        Some((least - (first + 1) as f64 * more, more))
    }

    pub(super) fn stepped(&mut self, time: Duration) {
        observe(&mut self.step, time.as_secs_f64());
    }

    pub(super) fn drafted(&mut self, tokens: usize, time: Duration) {
        observe(&mut self.draft, time.as_secs_f64() / tokens as f64);
    }

    /// A batch of `tokens` accepted the first `accepted` of its `tokens` − 1 drafts. Those behind a
    /// rejected one were not judged.
    pub(super) fn verified(&mut self, tokens: usize, accepted: usize, time: Duration) {
        if let Some(seconds) = self.verify.get_mut(tokens.saturating_sub(2)) {
            observe(seconds, time.as_secs_f64());
        }
        for draft in 0..tokens.saturating_sub(1).min(accepted + 1) {
            let outcome = if draft < accepted { 1.0 } else { 0.0 };
            self.acceptance += NEWEST * (outcome - self.acceptance);
        }
    }
}

fn observe(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + NEWEST * (value - mean)));
}

/// The length with the most expected tokens for its cost, and whether it beats dense steps. A draft of k
/// tokens is expected to give (1 − αᵏ⁺¹) / (1 − α) tokens (Leviathan et al., arXiv 2211.17192, equation
/// 1), α being the rate of acceptance.
fn best(acceptance: f64, costs: &Costs) -> (usize, bool) {
    let rate = |length: usize| {
        let tokens: f64 = (0..=length as i32).map(|power| acceptance.powi(power)).sum();
        let (first, more) = costs.verify;
        tokens / (length as f64 * (costs.draft + more) + first)
    };
    let length = (1..=LONGEST).max_by(|&a, &b| rate(a).total_cmp(&rate(b))).unwrap_or(1);
    (length, rate(length) > 1.0 / costs.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Costs = Costs { step: 1.0, draft: 0.2, verify: (1.0, 0.05) };
    const DEAR: Costs = Costs { step: 1.0, draft: 0.8, verify: (1.0, 0.6) };

    #[test]
    fn the_best_length_grows_with_acceptance() {
        let lengths: Vec<usize> = [0.1, 0.5, 0.8, 0.95].map(|a| best(a, &CHEAP).0).into();
        assert_eq!(lengths[0], 1);
        assert!(lengths.is_sorted() && lengths[3] > 4, "{lengths:?}");
        assert!(best(0.8, &CHEAP).1 && !best(0.1, &CHEAP).1);
        assert_eq!(best(1.0, &DEAR), (1, false), "two tokens for 2.4 never pay");
        assert_eq!(best(1.0, &CHEAP).0, LONGEST);
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Does what is asked for, at these times of a draft and of one more token in a batch.
    fn lengths(draft: u64, more: u64, accepted: bool) -> Vec<usize> {
        let mut pace = Pace::new(DraftLength::Adaptive);
        let run = |_| {
            let length = pace.next(true);
            if length == 0 {
                pace.stepped(millis(100));
            } else {
                pace.drafted(length, millis(draft * length as u64));
                let all = if accepted { length } else { 0 };
                pace.verified(length + 1, all, millis(100 + more * length as u64));
            }
            length
        };
        (0..200).map(run).collect()
    }

    #[test]
    fn drafts_that_do_not_pay_are_rare() {
        let seen = lengths(80, 60, true);
        assert_eq!(seen[..3], [0, 1, 3], "a dense step and two drafts are measured first");
        let drafts = seen.iter().filter(|&&length| length > 0).count();
        assert!((4..8).contains(&drafts), "{seen:?}");
        let cheap = lengths(20, 5, true);
        assert!(cheap[3..].iter().all(|&length| length > 2), "{cheap:?}");
        assert_eq!(*lengths(20, 5, false).last().unwrap(), 0, "nothing is accepted");
    }

    #[test]
    fn lengths_of_drawn_text_go_by_acceptance_alone() {
        let mut pace = Pace::new(DraftLength::Adaptive);
        let first = pace.next(false);
        pace.stepped(millis(1));
        pace.drafted(1, millis(1000));
        assert_eq!(pace.next(false), first);
        (0..50).for_each(|_| pace.verified(3, 0, millis(1)));
        assert_eq!(pace.next(false), 1);
        (0..50).for_each(|_| pace.verified(9, 8, millis(1)));
        assert!(pace.next(false) > first);
        assert_eq!(Pace::new(DraftLength::Fixed(5)).next(true), 5);
    }
}
