//! Where neurons speak up: the steps with their largest outputs.

/// Contexts kept of each neuron.
pub const CONTEXTS: usize = 5;

/// A step of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Peak {
    /// The neuron's output.
    pub(super) output: f32,
    /// The answer's number.
    pub(super) answer: u32,
    /// The masked step.
    pub(super) step: u32,
}

/// The largest outputs by size of every neuron, at most one of each answer. 12 bytes a place, and
/// [`CONTEXTS`] places a neuron.
#[derive(Debug)]
pub(super) struct Peaks {
    /// `[neurons][CONTEXTS]`, the largest first; outputs of 0 are free places.
    places: Vec<[Peak; CONTEXTS]>,
}

impl Peaks {
    pub(super) fn new(neurons: usize) -> Self {
        Self { places: vec![[Peak::default(); CONTEXTS]; neurons] }
    }

    /// Adds the largest outputs of an answer, `(output, step)` by neuron. Of equal ones the earlier stays.
    pub(super) fn add(&mut self, answer: u32, largest: &[(f32, u32)]) {
        for (places, &(output, step)) in self.places.iter_mut().zip(largest) {
            let place = places.iter().position(|p| p.output.abs() < output.abs());
            if let Some(place) = place {
                places[place..].rotate_right(1);
                places[place] = Peak { output, answer, step };
            }
        }
    }

    /// Those of a neuron, the largest first.
    pub(super) fn of(&self, neuron: usize) -> impl Iterator<Item = &Peak> {
        self.places[neuron].iter().filter(|peak| peak.output != 0.0)
    }
}

/// The largest output by size of each neuron of a layer and its step, of outputs `[steps, neurons]`.
pub(super) fn largest(outputs: &[f32], neurons: usize) -> Vec<(f32, u32)> {
    let mut largest = vec![(0.0f32, 0); neurons];
    for (step, row) in (0..).zip(outputs.chunks_exact(neurons)) {
        for (largest, &output) in largest.iter_mut().zip(row) {
            if output.abs() > largest.0.abs() {
                *largest = (output, step);
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stay_in_order() {
        let mut peaks = Peaks::new(1);
        for (answer, output) in [1.0, -7.0, 3.0, 3.0, 0.5, -2.0, 9.0].into_iter().enumerate() {
            peaks.add(answer as u32, &largest(&[0.1, output, 0.0], 1));
        }
        let kept: Vec<(f32, u32)> = peaks.of(0).map(|p| (p.output, p.answer)).collect();
        assert_eq!(kept, [(9.0, 6), (-7.0, 1), (3.0, 2), (3.0, 3), (-2.0, 5)]);
        assert!(peaks.of(0).all(|peak| peak.step == 1));
    }
}
