//! Integer codes of single weights in the blocks of quantised types (ggml `ggml-common.h`).

use crate::dtype::DType;

/// Bits of a code: `bits` of a byte of the block, from `shift` on.
#[derive(Clone, Copy)]
struct Field {
    byte: usize,
    shift: u32,
    bits: u32,
}

impl Field {
    const NONE: Self = Self { byte: 0, shift: 0, bits: 0 };

    fn new(byte: usize, shift: usize, bits: u32) -> Self {
        Self { byte, shift: shift as u32, bits }
    }

    fn mask(self) -> u32 {
        (1 << self.bits) - 1
    }

    fn get(self, block: &[u8]) -> u32 {
        u32::from(block[self.byte]) >> self.shift & self.mask()
    }

    fn set(self, block: &mut [u8], value: u32) {
        let kept = u32::from(block[self.byte]) & !(self.mask() << self.shift);
        block[self.byte] = (kept | (value & self.mask()) << self.shift) as u8;
    }
}

impl DType {
    /// Moves the code of one weight of `block` by `step` steps of its grid, at most to the end of the type's
    /// range. All else of the block stays as it is.
    ///
    /// # Panics
    /// When the type has no codes, or `block` is no block of the type with such an element.
    pub fn step_code(self, block: &mut [u8], element: usize, step: i32) {
        assert!(block.len() == self.block_bytes() && element < self.block_len());
        if self == DType::Q8_0 {
            let code = i32::from(block[2 + element] as i8).saturating_add(step);
            block[2 + element] = code.clamp(-127, 127) as i8 as u8;
            return;
        }
        let [low, high] = self.fields(element);
        let (code, most) = (low.get(block) | high.get(block) << low.bits, low.bits + high.bits);
        let code = (code as i32).saturating_add(step).clamp(0, (1 << most) - 1) as u32;
        low.set(block, code);
        if high.bits > 0 {
            high.set(block, code >> low.bits);
        }
    }

    /// The low and the high bits of an element's code.
    fn fields(self, element: usize) -> [Field; 2] {
        // Blocks of 32: the second half lies in the high nibbles of the first's bytes.
        let (half, nibble) = (element % 16, element / 16 * 4);
        // Blocks of 256, by parts of 64 in nibbles or of 128 in pairs of bits.
        let (part, lane) = (element / 32, element % 32);
        let nibbles = |first: usize| Field::new(first + part / 2 * 32 + lane, part % 2 * 4, 4);
        let pairs = |first: usize| Field::new(first + part / 4 * 32 + lane, part % 4 * 2, 2);
        match self {
            DType::Q4_0 => [Field::new(2 + half, nibble, 4), Field::NONE],
            DType::Q4_1 => [Field::new(4 + half, nibble, 4), Field::NONE],
            DType::Q5_0 => {
                [Field::new(6 + half, nibble, 4), Field::new(2 + element / 8, element % 8, 1)]
            }
            DType::Q5_1 => {
                [Field::new(8 + half, nibble, 4), Field::new(4 + element / 8, element % 8, 1)]
            }
            DType::Q2_K => [pairs(16), Field::NONE],
            DType::Q3_K => [pairs(32), Field::new(lane, part, 1)],
            DType::Q4_K => [nibbles(16), Field::NONE],
            DType::Q5_K => [nibbles(48), Field::new(16 + lane, part, 1)],
            DType::Q6_K => {
                let (half, quarter) = (part / 4, part % 4);
                let low = Field::new(half * 64 + quarter % 2 * 32 + lane, quarter / 2 * 4, 4);
                [low, Field::new(128 + half * 32 + lane, quarter * 2, 2)]
            }
            DType::F32 | DType::F16 | DType::Bf16 | DType::Q8_0 => unreachable!("no such codes"),
        }
    }
}
