//! What the metrics and policies are called in prose, and how they are defined.

/// A metric or policy in words, with its formula.
pub(super) struct Definition {
    /// The name in records and on the command line.
    pub(super) name: &'static str,
    /// The name in a sentence.
    pub(super) words: &'static str,
    /// Score of an MLP neuron.
    pub(super) neuron: &'static str,
    /// Score of a head.
    pub(super) head: &'static str,
    /// Whether the score needs the label or a backward pass.
    pub(super) knows_label: bool,
    /// What to know when reading it.
    pub(super) note: &'static str,
}

/// Every metric and policy that fewron has (arXiv 2406.06562, section 3, for the metrics).
const DEFINITIONS: [Definition; 16] = [
    Definition {
        name: "cor-gxo",
        words: "corrected attribution",
        neuron: "−g_i·o_i + ½·|o_i|·‖g‖",
        head: "−Σ g_h·o_h + ½·‖o_h‖·‖g‖",
        knows_label: true,
        note: "The paper’s metric: gradient × output plus half of the Cauchy–Schwarz bound on what \
               switching off other layers adds.",
    },
    Definition {
        name: "gxo",
        words: "gradient × output",
        neuron: "−g_i·o_i",
        head: "−Σ g_h·o_h",
        knows_label: true,
        note: "First-order loss change of switching off one neuron while all others stay on.",
    },
    Definition {
        name: "snip",
        words: "SNIP",
        neuron: "|g_i·o_i|",
        head: "|Σ g_h·o_h|",
        knows_label: true,
        note: "As gradient × output, without the sign.",
    },
    Definition {
        name: "fisher",
        words: "Fisher information",
        neuron: "(g_i·o_i)²",
        head: "(Σ g_h·o_h)²",
        knows_label: true,
        note: "Same order as SNIP at a single token; differs once summed over tokens.",
    },
    Definition {
        name: "ig",
        words: "integrated gradients",
        neuron: "−ḡ_i·o_i",
        head: "−Σ ḡ_h·o_h",
        knows_label: true,
        note: "ḡ is the mean gradient with the layer’s outputs scaled by k/n, k = 1…n, one layer at \
               a time.",
    },
    Definition {
        name: "gradient",
        words: "the gradient alone",
        neuron: "−g_i",
        head: "−mean(g_h)",
        knows_label: true,
        note: "Ignores how large the output is.",
    },
    Definition {
        name: "magnitude",
        words: "magnitude",
        neuron: "|o_i|",
        head: "‖o_h‖",
        knows_label: false,
        note: "Needs no label, but every neuron computed: the exact form saves nothing at run time.",
    },
    Definition {
        name: "wina",
        words: "weighted magnitude",
        neuron: "|o_i|·‖W_down,i‖",
        head: "‖o_h‖",
        knows_label: false,
        note: "Magnitude times the norm of the column that it multiplies.",
    },
    Definition {
        name: "random",
        words: "a random choice",
        neuron: "seeded uniform",
        head: "seeded uniform",
        knows_label: false,
        note: "The floor: what any choice gets.",
    },
    Definition {
        name: "gate",
        words: "gate-first selection",
        neuron: "|act(gate_i)|·c_i",
        head: "–",
        knows_label: false,
        note: "Gate computed for all neurons, up and down only for the kept; c is calibrated.",
    },
    Definition {
        name: "predict",
        words: "the low-rank predictor",
        neuron: "(x·A)·B_i",
        head: "–",
        knows_label: false,
        note: "Predicts the score from the MLP’s input; works without a gate.",
    },
    Definition {
        name: "prompt",
        words: "prompt attribution",
        neuron: "attribution on the prompt",
        head: "attribution on the prompt",
        knows_label: false,
        note: "The prompt’s own tokens are the labels: one neuron set per request.",
    },
    Definition {
        name: "input",
        words: "input thresholding",
        neuron: "|x_j| against a threshold",
        head: "|x_j| against a threshold",
        knows_label: false,
        note: "Drops input channels of each matrix.",
    },
    Definition {
        name: "static",
        words: "a fixed neuron set",
        neuron: "mean calibration score",
        head: "mean calibration score",
        knows_label: false,
        note: "The same neurons for every token.",
    },
    Definition {
        name: "threshold",
        words: "thresholding",
        neuron: "score against a threshold",
        head: "score against a threshold",
        knows_label: false,
        note: "Keeps what exceeds a calibrated threshold.",
    },
    Definition {
        name: "dense",
        words: "the dense model",
        neuron: "everything kept",
        head: "everything kept",
        knows_label: false,
        note: "The reference.",
    },
];

/// The definition of `name`, when fewron has one.
pub(super) fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|definition| definition.name == name)
}

/// The name in a sentence; an unknown name stands for itself.
pub(super) fn words(name: &str) -> &str {
    definition(name).map_or(name, |definition| definition.words)
}

/// Whether masks of this metric see the label.
pub(super) fn knows_label(name: &str) -> bool {
    definition(name).is_some_and(|definition| definition.knows_label)
}
