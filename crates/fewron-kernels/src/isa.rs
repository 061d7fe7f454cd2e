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
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

/// A name that no instruction set of this processor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl std::fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
        write!(f, "this processor has no instruction set {:?}; it has {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownIsa {}

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
                if is_x86_feature_detected!("avxvnni") {
                    levels.push(Isa(Level::AvxVnni));
                }
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

    /// The instruction set that the environment variable `FEWRON_ISA` names, else the best one.
    ///
    /// # Errors
    /// When this processor has none of that name.
    pub fn from_env() -> Result<Self, UnknownIsa> {
        match std::env::var("FEWRON_ISA") {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => Ok(Self::detect()),
        }
    }

    /// The instruction set of a name, as [`Self::name`] gives it.
    ///
    /// # Errors
    /// When this processor has none of that name.
    pub fn named(name: &str) -> Result<Self, UnknownIsa> {
        let found = Self::available().into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| UnknownIsa(name.to_owned()))
    }

    /// Short name: `scalar`, `avx2`, `avx-vnni` or `avx512-vnni`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "avx512-vnni",
        }
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

/// Vectors of sixteen 32-bit lanes, and what kernels do with them. Kernel bodies are written once
/// over this trait and compiled once per instruction set by [`multiversion!`].
///
/// # Safety
/// The `unsafe` functions need a processor with the instruction set, and pointers that are valid for
/// the bytes they say.
pub(crate) trait Arch {
    /// 64 bytes: four in each lane.
    type Bytes: Copy;
    /// Sixteen i32.
    type Ints: Copy;
    /// Sums of a few products in each lane, of whatever width the instruction set multiplies to.
    type Sums: Copy;
    /// Sixteen f32.
    type Floats: Copy;

    /// Parts of the sixteen lanes (1 or 2), each in registers of its own.
    const PARTS: usize;
    /// Dot products with weights of so many bits that [`Self::Sums`] have room for.
    fn room(bits: usize) -> usize;

    /// `a * b + c`, fused where the instruction set has it.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;

    /// Zeros.
    unsafe fn no_bytes() -> Self::Bytes;
    /// Reads 64 bytes.
    unsafe fn bytes(from: *const u8) -> Self::Bytes;
    /// Reads the first `lanes` lanes; zeros in the others.
    unsafe fn bytes_part(from: *const u8, lanes: usize) -> Self::Bytes;
    /// Writes 64 bytes.
    unsafe fn store_bytes(bytes: Self::Bytes, to: *mut u8);
    /// The low four bits of every byte.
    unsafe fn low(bytes: Self::Bytes) -> Self::Bytes;
    /// The high four bits of every byte.
    unsafe fn high(bytes: Self::Bytes) -> Self::Bytes;
    /// The low four bits of 32 bytes, then their high four bits.
    unsafe fn nibbles(from: *const u8) -> Self::Bytes;
    /// Adds `bit` to byte `i` where bit `i` of `mask` is set.
    unsafe fn add_bits(bytes: Self::Bytes, mask: u64, bit: u8) -> Self::Bytes;
    /// `high << bits | low` for every byte; nothing is shifted out.
    unsafe fn join(high: Self::Bytes, low: Self::Bytes, bits: usize) -> Self::Bytes;
    /// Four rows of 64 bytes as vectors of 16 lanes of one byte of each row: vector `q` holds, in
    /// lane `4ℓ + i`, byte `16ℓ + 4q + i`.
    unsafe fn interleave(rows: [Self::Bytes; 4]) -> [Self::Bytes; 4];
    /// [`Arch::interleave`] of the [`Arch::nibbles`] at four places.
    #[inline(always)]
    unsafe fn interleave_nibbles([a, b, c, d]: [*const u8; 4]) -> [Self::Bytes; 4] {
        // Not by `map`, which may be compiled as a function of its own, without the instruction set.
        // SAFETY: passed on to the caller.
        unsafe {
            Self::interleave([
                Self::nibbles(a),
                Self::nibbles(b),
                Self::nibbles(c),
                Self::nibbles(d),
            ])
        }
    }

    /// Zeros.
    unsafe fn no_ints() -> Self::Ints;
    /// Sums of lanes.
    unsafe fn add_ints(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Zeros.
    unsafe fn no_sums() -> Self::Sums;
    /// `sums += Σ w·a` over the four bytes of each lane: `w` unsigned and of `bits` bits, `a` from −127
    /// to 127.
    unsafe fn dot(bits: usize, sums: Self::Sums, w: Self::Bytes, a: Self::Bytes) -> Self::Sums;
    /// The same with the four bytes at `a` in every lane.
    unsafe fn dot_splat(bits: usize, sums: Self::Sums, w: Self::Bytes, a: *const u8) -> Self::Sums;
    /// `ints + sums`.
    unsafe fn take(bits: usize, ints: Self::Ints, sums: Self::Sums) -> Self::Ints;
    /// In each of the first `lanes` lanes (2, 4 or 8), the sum of the lanes that far apart; the others
    /// hold anything.
    unsafe fn fold(ints: Self::Ints, lanes: usize) -> Self::Ints;
    /// Exact up to 2²⁴.
    unsafe fn to_floats(ints: Self::Ints) -> Self::Floats;

    /// Reads sixteen f32.
    unsafe fn floats(from: *const f32) -> Self::Floats;
    /// Writes sixteen f32.
    unsafe fn store(floats: Self::Floats, to: *mut f32);
    /// Writes one part of sixteen f32, to its place among them.
    unsafe fn store_part<const PART: usize>(floats: Self::Floats, to: *mut f32);
    /// Reads sixteen numbers in half precision.
    unsafe fn halves(from: *const u8) -> Self::Floats;
    /// Reads `lanes` numbers in half precision; zeros in the other lanes. May read 32 bytes.
    unsafe fn halves_part(from: *const u8, lanes: usize) -> Self::Floats;
    /// Reads `lanes` signed bytes; zeros in the other lanes. May read 16 bytes.
    unsafe fn small_ints(from: *const u8, lanes: usize) -> Self::Floats;
    /// One number in every lane.
    unsafe fn splat(value: f32) -> Self::Floats;
    /// One number in the first eight lanes, another in the rest.
    unsafe fn splat_two(first: f32, rest: f32) -> Self::Floats;
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c` as [`Self::mul_add`].
    unsafe fn fma(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Transposes sixteen rows of sixteen 32-bit elements; rows are `stride` bytes apart in `to`.
    unsafe fn transpose(from: *const u8, to: *mut u8, stride: usize);
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
                $body::<$crate::x86::Avx2<false>>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            #[allow(clippy::too_many_arguments)]
            fn avx_vnni($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::x86::Avx2<true>>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::x86::Avx512Vnni>($($arg),*)
            }
            match isa.level() {
                $crate::isa::Level::Scalar => $body::<$crate::scalar::Scalar>($($arg),*),
                // SAFETY: an `Isa` of this level exists only where the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::AvxVnni => unsafe { avx_vnni($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512Vnni => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use multiversion;
