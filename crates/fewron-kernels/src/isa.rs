//! Choice of instruction set at run time.

/// An instruction set that this processor is known to have: holding a value is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Isa {
    /// Portable code, compiled for the target's base instruction set.
    pub const SCALAR: Isa = Isa(Level::Scalar);

    /// The best instruction set of this processor.
    pub fn detect() -> Self {
        *Self::available().last().unwrap_or(&Self::SCALAR)
    }

    /// Every instruction set this processor has, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                levels.push(Isa(Level::Avx2));
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni")
                {
                    levels.push(Isa(Level::Avx512Vnni));
                }
            }
        }
        levels
    }

    /// Short name: `scalar`, `avx2` or `avx512-vnni`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512-vnni",
        }
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Arithmetic that differs between instruction sets. Kernel bodies are written once over this
/// trait and compiled once per instruction set by [`multiversion!`].
pub(crate) trait Arch {
    /// `a * b + c`, fused where the instruction set has it.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// Products of `R` weight rows with `N` input vectors, both in 8-bit form: for each pair,
    /// `Σ_b d_w[b]·d_a[b]·Σ_{k in b} w[k]·a[k] + Σ_b m_w[b]·s_a[b]` over blocks `b` of 16. The order
    /// of operations for a pair is the same whatever `R` and `N` are.
    ///
    /// # Safety
    /// All `values` must have the same length, a multiple of 64, and the other slices a sixteenth of
    /// it; and the processor must have the instruction set.
    unsafe fn dots<const R: usize, const N: usize>(
        rows: [Row; R],
        inputs: [Input; N],
    ) -> [[f32; N]; R];
}

/// A weight row: unsigned values, a scale and an offset for each 16 of them.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) values: &'a [u8],
    pub(crate) scales: &'a [f32],
    pub(crate) offsets: &'a [f32],
}

/// An input vector: signed values, a scale for each 16 of them, and their sums times the scale.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) values: &'a [i8],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [f32],
}

pub(crate) struct Scalar;

impl Arch for Scalar {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    unsafe fn dots<const R: usize, const N: usize>(
        rows: [Row; R],
        inputs: [Input; N],
    ) -> [[f32; N]; R] {
        let mut totals = [[0.0; N]; R];
        for (row, totals) in rows.iter().zip(&mut totals) {
            for (total, input) in totals.iter_mut().zip(&inputs) {
                let blocks = row.values.chunks_exact(16).zip(input.values.chunks_exact(16));
                for (block, (w, a)) in blocks.enumerate() {
                    let dot: i32 =
                        w.iter().zip(a).map(|(&w, &a)| i32::from(w) * i32::from(a)).sum();
                    *total += row.scales[block] * input.scales[block] * dot as f32;
                    *total += row.offsets[block] * input.sums[block];
                }
            }
        }
        totals
    }
}

/// Compiles one generic kernel body for every instruction set and picks at run time.
///
/// `fn name(args) = body;` defines `fn name(isa: Isa, args)`, which calls `body::<A>(args)` with
/// the matching [`Arch`] inside a function that enables its target features.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::x86::Avx2>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::x86::Avx512Vnni>($($arg),*)
            }
            match isa.level() {
                $crate::isa::Level::Scalar => $body::<$crate::isa::Scalar>($($arg),*),
                // SAFETY: an `Isa` of this level exists only where the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512Vnni => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use multiversion;
