//! Edits of a matrix's codes in a plan file, one list of them or one for each of several groups:
//! `recover/FORMAT.md`, "Edits".
//!
//! A list: for each edit, by its place, the number of codes that are passed over (Rice code: `n >> k` ones, a
//! zero, k low bits), a bit that is 1 where the code gets smaller, and the step's size less 1 in unary, without
//! its end where it is the largest. Least significant bits come first.

use fewron_model::Edit;

/// Bytes before the bits: the number of edits (u32); k, or groups of rows; the largest step; the form; groups
/// of columns.
const HEADER: usize = 8;

/// Bytes behind the header of groups: rows and columns (u32).
const SIDES: usize = 8;

/// Forms.
const LIST: u8 = 0;
const GROUPED: u8 = 1;

/// Most low bits of a Rice code.
const MOST_LOW_BITS: u8 = 24;

/// Largest step of an edit.
const MOST_STEP: u8 = 7;

/// Most groups of rows or of columns.
const MOST_GROUPS: u8 = 16;

/// Most rows or columns of a matrix in groups.
const MOST_SIDE: u32 = 1 << 20;

/// Bits of a group's number of edits, and of its k.
const COUNT_BITS: u8 = 32;
const LOW_BITS_BITS: u8 = 5;

/// The edits of a matrix by place; `None` where the bytes are no such stream.
pub(super) fn read_edits(bytes: &[u8]) -> Option<Vec<Edit>> {
    let (&[a, b, c, d, first, limit, form, columns], stream) =
        bytes.split_first_chunk::<HEADER>()?;
    let count = u32::from_le_bytes([a, b, c, d]) as usize;
    // An edit has two bits at least.
    if !(1..=MOST_STEP).contains(&limit) || count > stream.len() * 4 {
        return None;
    }
    let mut edits = Vec::with_capacity(count);
    match (form, columns) {
        (LIST, 0) => {
            Bits { bytes: stream, at: 0 }.edits(count, first, limit, |edit| {
                edits.push(edit);
                Some(())
            })?;
        }
        (GROUPED, _) => {
            read_groups(stream, [first, columns], limit, &mut edits)?;
            edits.sort_unstable_by_key(|edit| edit.place);
        }
        _ => return None,
    }
    (edits.len() == count).then_some(edits)
}

/// Adds the edits of all groups of rows and columns.
fn read_groups(bytes: &[u8], groups: [u8; 2], limit: u8, edits: &mut Vec<Edit>) -> Option<()> {
    let (&[a, b, c, d, e, f, g, h], stream) = bytes.split_first_chunk::<SIDES>()?;
    let sizes = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
    let whole = groups.iter().all(|groups| (1..=MOST_GROUPS).contains(groups));
    if !whole || sizes.iter().any(|&size| size > MOST_SIDE) {
        return None;
    }
    sizes[0].checked_mul(sizes[1])?;
    let mut bits = Bits { bytes: stream, at: 0 };
    let rows = bits.members(sizes[0], groups[0])?;
    let columns = bits.members(sizes[1], groups[1])?;
    for rows in &rows {
        for columns in &columns {
            let count = bits.number(COUNT_BITS)? as usize;
            let low_bits = bits.number(LOW_BITS_BITS)? as u8;
            bits.edits(count, low_bits, limit, |Edit { place, step }| {
                let place = place as usize;
                let row = rows.get(place.checked_div(columns.len())?)?;
                let column = columns[place % columns.len()];
                edits.push(Edit { place: row * sizes[1] + column, step });
                Some(())
            })?;
        }
    }
    Some(())
}

/// Bits of bytes, the least significant of each first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn next(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Ones up to a zero, which is passed over, or `most` of them without one.
    fn ones(&mut self, most: u32) -> Option<u32> {
        let mut count = 0;
        while count < most && self.next()? {
            count += 1;
        }
        Some(count)
    }

    /// A number of so many bits.
    fn number(&mut self, bits: u8) -> Option<u32> {
        (0..bits).try_fold(0, |number, bit| Some(number | u32::from(self.next()?) << bit))
    }

    /// The rows, or columns, of each group.
    fn members(&mut self, size: u32, groups: u8) -> Option<Vec<Vec<u32>>> {
        let mut members = vec![Vec::new(); groups.into()];
        let width = (groups - 1).checked_ilog2().map_or(0, |log| log as u8 + 1);
        for at in 0..size {
            members.get_mut(self.number(width)? as usize)?.push(at);
        }
        Some(members)
    }

    /// Gives each edit of a list to `put`, which refuses what lies outside.
    fn edits(
        &mut self,
        count: usize,
        low_bits: u8,
        limit: u8,
        mut put: impl FnMut(Edit) -> Option<()>,
    ) -> Option<()> {
        if low_bits > MOST_LOW_BITS {
            return None;
        }
        let mut next = 0u32;
        for _ in 0..count {
            let passed =
                self.ones(u32::MAX)?.checked_mul(1 << low_bits)? | self.number(low_bits)?;
            let place = next.checked_add(passed)?;
            let down = self.next()?;
            let size = self.ones(u32::from(limit) - 1)? as i8 + 1;
            put(Edit { place, step: if down { -size } else { size } })?;
            next = place.checked_add(1)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_written_by_hand_is_read() {
        // k = 1, steps up to 2: passes 0 and goes down by 1; passes 3 and goes up by 2.
        // 0 | 0 | 1 | 0,  10 | 1 | 0 | 1  in the order of the stream.
        let bits = [0, 0, 1, 0, 1, 0, 1, 0, 1];
        let mut bytes = vec![2, 0, 0, 0, 1, 2, 0, 0, 0, 0];
        for (at, bit) in bits.into_iter().enumerate() {
            bytes[HEADER + at / 8] |= bit << (at % 8);
        }
        let edits = [Edit { place: 0, step: -1 }, Edit { place: 4, step: 2 }];
        assert_eq!(read_edits(&bytes), Some(edits.to_vec()));
        for len in 0..bytes.len() {
            assert_eq!(read_edits(&bytes[..len]), None, "{len}");
        }
        for (at, wrong) in [(0, 8), (0, 9), (3, 1), (4, 25), (5, 0), (5, 8), (6, 1), (6, 2), (7, 1)]
        {
            let mut bytes = bytes.clone();
            bytes[at] = wrong;
            assert_eq!(read_edits(&bytes), None, "{at}");
        }
    }

    /// The bytes that the Python side writes (`recover/tests/golden/make_edits.py`).
    #[test]
    fn streams_of_the_python_side_are_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recover/tests/golden/edits.json");
        let cases: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let hex = case["hex"].as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let pairs: Vec<(u32, i8)> = serde_json::from_value(case["edits"].clone()).unwrap();
            let edits = pairs.into_iter().map(|(place, step)| Edit { place, step });
            assert_eq!(read_edits(&bytes), Some(edits.collect()), "{case}");
            for len in 0..bytes.len() {
                assert_eq!(read_edits(&bytes[..len]), None, "{case} {len}");
            }
        }
        assert_eq!(cases.as_array().unwrap().len(), 5);
    }
}
