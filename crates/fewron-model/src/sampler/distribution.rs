//! Probabilities of the tokens that a sampler may draw.

/// Tokens and their probabilities, which sum to 1. Other tokens are never drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// By token, ascending.
    tokens: Vec<(u32, f64)>,
}

impl Distribution {
    /// Probabilities in proportion to weights; weights of 0 are dropped. Without any weight the token
    /// is 0, as in [`super::Sampler::sample`].
    pub(super) fn new(mut tokens: Vec<(u32, f64)>) -> Self {
        tokens.retain(|(_, weight)| *weight > 0.0);
        tokens.sort_unstable_by_key(|(token, _)| *token);
        let total: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        tokens.iter_mut().for_each(|(_, weight)| *weight /= total);
        if tokens.is_empty() { Self::certain(0) } else { Self { tokens } }
    }

    /// One token.
    pub(super) fn certain(token: u32) -> Self {
        Self { tokens: vec![(token, 1.0)] }
    }

    /// The token, if there is only one.
    pub(super) fn only(&self) -> Option<u32> {
        match self.tokens[..] {
            [(token, _)] => Some(token),
            _ => None,
        }
    }

    /// A token's probability.
    pub fn of(&self, token: u32) -> f64 {
        let at = self.tokens.binary_search_by_key(&token, |(token, _)| *token);
        at.map_or(0.0, |at| self.tokens[at].1)
    }

    /// The token whose share of [0, 1) holds `unit`.
    pub(super) fn at(&self, unit: f64) -> u32 {
        let mut left = unit;
        let found = self.tokens.iter().find(|(_, probability)| {
            left -= probability;
            left < 0.0
        });
        // Rounding may leave a last sliver.
        found.or(self.tokens.last()).map_or(0, |(token, _)| *token)
    }

    /// The normalised max(0, p − q), with p this and q another distribution; this one where nothing is
    /// left, which is rounding.
    pub(super) fn without(&self, other: &Self) -> Self {
        let less = |&(token, p): &(u32, f64)| (token, (p - other.of(token)).max(0.0));
        let rest: Vec<(u32, f64)> = self.tokens.iter().map(less).collect();
        if rest.iter().all(|(_, weight)| *weight == 0.0) {
            return self.clone();
        }
        Self::new(rest)
    }
}
