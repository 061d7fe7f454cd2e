//! Rotations as `config.json` describes them: `rope_theta` and `rope_scaling`, or `rope_parameters`.

use std::f64::consts::PI;

use serde_json::{Map, Value};

use super::keys::Keys;
use crate::config::LayerConfig;
use crate::error::ModelError;

/// The rotations of all layers.
pub(super) struct RopeSettings {
    /// Elements of a head that are rotated.
    pub(super) dim: usize,
    /// Divisors of the frequencies.
    pub(super) factors: Option<Vec<f32>>,
    pub(super) layers: Vec<LayerConfig>,
}

/// Keys of a rotation that are read.
const KNOWN: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
];

/// How frequencies are changed for longer contexts.
enum Scaling {
    None,
    /// Positions are divided.
    Linear {
        factor: f64,
    },
    /// Slow frequencies are divided, medium ones less (Llama 3.1; transformers
    /// `_compute_llama3_parameters`).
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

/// One rotation.
struct Rotation {
    theta: f64,
    /// Part of a head that is rotated, if the rotation says so.
    partial: Option<f64>,
    scaling: Scaling,
}

impl RopeSettings {
    /// No rotation at all.
    pub(super) fn none(layers: usize) -> Self {
        let layer = LayerConfig { rope_theta: 10_000.0, rope_scale: 1.0, window: None };
        RopeSettings { dim: 0, factors: None, layers: vec![layer; layers] }
    }

    /// The same rotation in every layer. Families that always rotate whole heads have
    /// `partial_default` 1.
    pub(super) fn global(
        keys: Keys<'_>,
        head_dim: usize,
        partial_default: f64,
        layers: usize,
    ) -> Result<Self, ModelError> {
        let place = &keys.key("");
        let rotation = match (keys.object("rope_parameters")?, keys.object("rope_scaling")?) {
            (Some(map), _) => Rotation::read(keys, place, "rope_parameters", map)?,
            (None, Some(map)) => Rotation::read(keys, place, "rope_scaling", map)?,
            (None, None) => Rotation {
                theta: keys.float_or("rope_theta", 1e4)?,
                partial: None,
                scaling: Scaling::None,
            },
        };
        let partial =
            rotation.partial.or(keys.float("partial_rotary_factor")?).unwrap_or(partial_default);
        let whole_only = partial_default == 1.0;
        if partial > 1.0 || whole_only && partial != 1.0 {
            return Err(keys.bad("partial_rotary_factor", "is not 1"));
        }
        // As Python's int(head_dim * partial_rotary_factor).
        let dim = (head_dim as f64 * partial) as usize;
        check_dim(keys, dim)?;
        Ok(RopeSettings {
            dim,
            factors: rotation.factors(dim),
            layers: vec![rotation.layer(None); layers],
        })
    }

    /// Gemma 3: layers with a window have a rotation of their own, without scaling.
    pub(super) fn gemma(
        keys: Keys<'_>,
        head_dim: usize,
        windows: Vec<Option<usize>>,
    ) -> Result<Self, ModelError> {
        const PARAMETERS: &str = "rope_parameters";
        let by_layer = keys.object(PARAMETERS)?;
        let place = keys.key("rope_parameters.");
        let of = |name: &str| match by_layer {
            None => Ok(None),
            Some(map) => Keys::new(map, &place).object(name),
        };
        if let Some(map) = by_layer {
            const LAYERS: [&str; 2] = ["full_attention", "sliding_attention"];
            if let Some(other) = map.keys().find(|name| !LAYERS.contains(&name.as_str())) {
                return Err(Keys::new(map, &place).unsupported(other, &LAYERS.join(", ")));
            }
        }
        let plain = |theta: f64| Rotation { theta, partial: None, scaling: Scaling::None };
        let mut global = match (of("full_attention")?, keys.object("rope_scaling")?) {
            (Some(map), _) => Rotation::read(keys, &place, "full_attention", map)?,
            (None, Some(map)) => Rotation::read(keys, &keys.key(""), "rope_scaling", map)?,
            (None, None) => plain(1e6),
        };
        let mut local = match of("sliding_attention")? {
            Some(map) => Rotation::read(keys, &place, "sliding_attention", map)?,
            None => plain(1e4),
        };
        let own_theta =
            |map: Option<&Map<String, Value>>| map.is_some_and(|m| m.contains_key("rope_theta"));
        if !own_theta(of("full_attention")?) && !own_theta(keys.object("rope_scaling")?) {
            global.theta = keys.float_or("rope_theta", 1e6)?;
        }
        if !own_theta(of("sliding_attention")?) {
            local.theta = keys.float_or("rope_local_base_freq", 1e4)?;
        }
        for rotation in [&global, &local] {
            // Divisors of the frequencies are the same for all layers of a `ModelConfig`.
            if matches!(rotation.scaling, Scaling::Llama3 { .. }) {
                return Err(ModelError::Unsupported {
                    key: keys.key("rope_type"),
                    value: "llama3".into(),
                    supported: "default, linear in this family".into(),
                });
            }
            if rotation.partial.is_some_and(|partial| partial != 1.0) {
                return Err(keys.bad("partial_rotary_factor", "is not 1"));
            }
        }
        check_dim(keys, head_dim)?;
        let layer = |window: Option<usize>| match window {
            Some(_) => local.layer(window),
            None => global.layer(None),
        };
        let layers = windows.into_iter().map(layer).collect();
        Ok(RopeSettings { dim: head_dim, factors: None, layers })
    }
}

fn check_dim(keys: Keys<'_>, dim: usize) -> Result<(), ModelError> {
    if dim == 0 || !dim.is_multiple_of(2) {
        return Err(keys.bad("head_dim", "gives an odd number of rotated elements, or none"));
    }
    Ok(())
}

impl Rotation {
    fn read(
        outer: Keys<'_>,
        place: &str,
        name: &str,
        map: &Map<String, Value>,
    ) -> Result<Self, ModelError> {
        let place = &format!("{place}{name}.");
        let keys = Keys::new(map, place);
        let type_key = if keys.has("rope_type") { "rope_type" } else { "type" };
        let scaling = match keys.text(type_key)?.unwrap_or("default") {
            "default" => Scaling::None,
            "linear" => Scaling::Linear { factor: keys.need_float("factor")? },
            "llama3" => Scaling::llama3(outer, keys)?,
            _ => return Err(keys.unsupported(type_key, "default, linear, llama3")),
        };
        if let Some(other) = map.keys().find(|key| !KNOWN.contains(&key.as_str()) && keys.has(key))
        {
            return Err(keys.unsupported(other, "no such key, or null"));
        }
        let theta = match keys.float("rope_theta")? {
            Some(theta) => theta,
            None => outer.float_or("rope_theta", 1e4)?,
        };
        Ok(Rotation { theta, partial: keys.float("partial_rotary_factor")?, scaling })
    }

    fn layer(&self, window: Option<usize>) -> LayerConfig {
        let rope_scale = match self.scaling {
            Scaling::Linear { factor } => (1.0 / factor) as f32,
            _ => 1.0,
        };
        LayerConfig { rope_theta: self.theta as f32, rope_scale, window }
    }

    /// Divisors of the frequencies of `dim` / 2 pairs.
    fn factors(&self, dim: usize) -> Option<Vec<f32>> {
        let Scaling::Llama3 { factor, low, high, original } = self.scaling else { return None };
        let divisor = |pair: usize| {
            let wavelength = 2.0 * PI * self.theta.powf(2.0 * pair as f64 / dim as f64);
            let turns = original / wavelength;
            if turns > high {
                1.0
            } else if turns < low {
                factor
            } else {
                let smooth = (turns - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        Some((0..dim / 2).map(|pair| divisor(pair) as f32).collect())
    }
}

impl Scaling {
    fn llama3(outer: Keys<'_>, keys: Keys<'_>) -> Result<Self, ModelError> {
        const ORIGINAL: &str = "original_max_position_embeddings";
        let (low, high) =
            (keys.need_float("low_freq_factor")?, keys.need_float("high_freq_factor")?);
        if high <= low {
            return Err(keys.bad("high_freq_factor", "is not more than low_freq_factor"));
        }
        let own = keys.float(ORIGINAL)?.or(outer.float(ORIGINAL)?);
        let original = own.or(outer.float("max_position_embeddings")?);
        let original = original.ok_or_else(|| keys.bad(ORIGINAL, "is missing"))?;
        Ok(Scaling::Llama3 { factor: keys.need_float("factor")?, low, high, original })
    }
}
