//! Scores of every unit at every token, streamed into row groups of bounded size.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::UnitKind;
use crate::ReportError;
use crate::atomic::AtomicFile;

const SCHEMA: &str = "message scores {
    required int32 sample;
    required int32 token;
    required int32 layer;
    required binary kind (utf8);
    required int32 unit;
    required float score;
}";

/// Rows in a group: 4 MiB of scores held in memory before they are encoded.
const GROUP_ROWS: usize = 1 << 20;

/// Rows expanded at a time while a column is encoded.
const CHUNK_ROWS: usize = 8192;

/// The scores of one layer at one token, as they lie in the row group's buffer.
#[derive(Clone, Copy, Debug)]
struct Block {
    sample: i32,
    token: i32,
    layer: i32,
    kind: UnitKind,
    first_unit: i32,
    rows: usize,
}

/// Writes attribution scores, one row per sample, token, layer and unit.
///
/// Columns: `sample`, `token` (step of the answer), `layer`, `unit` as INT32, `kind` as UTF-8
/// (`mlp`, `head`), `score` as FLOAT. Holds at most one row group (about a million scores); dropped
/// without [`finish`](Self::finish), it leaves no file.
#[derive(Debug)]
pub struct ScoreWriter {
    writer: SerializedFileWriter<AtomicFile>,
    blocks: Vec<Block>,
    scores: Vec<f32>,
    group_rows: usize,
    rows: u64,
}

impl ScoreWriter {
    /// Starts the file that [`finish`](Self::finish) will put at `path`.
    ///
    /// # Errors
    /// [`ReportError::Io`] when the folder does not exist or cannot be written.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        Self::with_group_rows(path, GROUP_ROWS)
    }

    fn with_group_rows(path: &Path, group_rows: usize) -> Result<Self, ReportError> {
        let file = AtomicFile::create(path)?;
        let writer = parse_message_type(SCHEMA)
            .and_then(|schema| SerializedFileWriter::new(file, Arc::new(schema), properties()))
            .map_err(|source| ReportError::Parquet { path: path.to_owned(), source })?;
        Ok(Self { writer, blocks: Vec::new(), scores: Vec::new(), group_rows, rows: 0 })
    }

    /// Appends the scores of all units of one layer and kind at one token: row i is unit i.
    ///
    /// # Errors
    /// [`ReportError::Parquet`] when a full row group cannot be written.
    pub fn write(
        &mut self,
        sample: u32,
        token: u32,
        layer: u32,
        kind: UnitKind,
        scores: &[f32],
    ) -> Result<(), ReportError> {
        let mut first_unit = 0;
        while first_unit < scores.len() {
            let free = self.group_rows - self.scores.len();
            let rows = free.min(scores.len() - first_unit);
            self.scores.extend_from_slice(&scores[first_unit..first_unit + rows]);
            self.blocks.push(Block {
                sample: sample.cast_signed(),
                token: token.cast_signed(),
                layer: layer.cast_signed(),
                kind,
                first_unit: first_unit as i32,
                rows,
            });
            first_unit += rows;
            if self.scores.len() == self.group_rows {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left and the footer, renames the file to its name and returns its row count.
    ///
    /// # Errors
    /// [`ReportError`] when the disk is full or the target cannot be replaced.
    pub fn finish(mut self) -> Result<u64, ReportError> {
        self.flush()?;
        let path = self.writer.inner().target().to_owned();
        let failed = |source| ReportError::Parquet { path, source };
        self.writer.into_inner().map_err(failed)?.commit()?;
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<(), ReportError> {
        if self.scores.is_empty() {
            return Ok(());
        }
        self.write_group().map_err(|source| ReportError::Parquet {
            path: self.writer.inner().target().to_owned(),
            source,
        })?;
        self.rows += self.scores.len() as u64;
        self.blocks.clear();
        self.scores.clear();
        Ok(())
    }

    fn write_group(&mut self) -> ParquetResult<()> {
        let names = [UnitKind::Mlp, UnitKind::Head].map(|kind| ByteArray::from(kind.as_str()));
        let blocks = &self.blocks;
        let mut group = self.writer.next_row_group()?;
        expand::<Int32Type>(&mut group, blocks, |block, _| block.sample)?;
        expand::<Int32Type>(&mut group, blocks, |block, _| block.token)?;
        expand::<Int32Type>(&mut group, blocks, |block, _| block.layer)?;
        expand::<ByteArrayType>(&mut group, blocks, |block, _| names[block.kind as usize].clone())?;
        expand::<Int32Type>(&mut group, blocks, |block, row| block.first_unit + row as i32)?;
        write_column::<FloatType>(&mut group, self.scores.chunks(CHUNK_ROWS))?;
        group.close()?;
        Ok(())
    }
}

/// Writes the next column: `value(block, row)` for every row of every block.
fn expand<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, AtomicFile>,
    blocks: &[Block],
    value: impl Fn(&Block, usize) -> T::T,
) -> ParquetResult<()> {
    let value = &value;
    let mut rows =
        blocks.iter().flat_map(|block| (0..block.rows).map(move |row| value(block, row)));
    let chunks = std::iter::from_fn(|| {
        let chunk: Vec<T::T> = rows.by_ref().take(CHUNK_ROWS).collect();
        (!chunk.is_empty()).then_some(chunk)
    });
    write_column::<T>(group, chunks)
}

/// Writes the next column of `group` from chunks of values.
pub(super) fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, AtomicFile>,
    chunks: impl Iterator<Item = impl AsRef<[T::T]>>,
) -> ParquetResult<()> {
    let mut column = group.next_column()?.ok_or_else(|| {
        parquet::errors::ParquetError::General("more columns than the schema has".to_owned())
    })?;
    for chunk in chunks {
        column.typed::<T>().write_batch(chunk.as_ref(), None, None)?;
    }
    column.close()
}

fn properties() -> Arc<WriterProperties> {
    let unit = ColumnPath::from("unit");
    let score = ColumnPath::from("score");
    let properties = WriterProperties::builder()
        .set_created_by(concat!("fewron ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .set_column_dictionary_enabled(unit.clone(), false)
        .set_column_encoding(unit, Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(score.clone(), false)
        .set_column_encoding(score, Encoding::BYTE_STREAM_SPLIT)
        .build();
    Arc::new(properties)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    type Row = (i32, i32, i32, String, i32, f32);

    fn read(path: &Path) -> (Vec<Row>, usize) {
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let rows = reader.get_row_iter(None).unwrap().map(|row| {
            let row = row.unwrap();
            let int = |column| row.get_int(column).unwrap();
            let kind = row.get_string(3).unwrap().clone();
            (int(0), int(1), int(2), kind, int(4), row.get_float(5).unwrap())
        });
        (rows.collect(), reader.num_row_groups())
    }

    #[test]
    fn rows_come_back_in_order_across_row_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.parquet");
        let mut writer = ScoreWriter::with_group_rows(&path, 7).unwrap();
        let mut expected = Vec::new();
        for sample in 0..2 {
            for layer in 0..3 {
                for (kind, units) in [(UnitKind::Mlp, 5), (UnitKind::Head, 2)] {
                    let scores: Vec<f32> =
                        (0..units).map(|unit| (sample * 100 + layer * 10 + unit) as f32).collect();
                    writer.write(sample, 4, layer, kind, &scores).unwrap();
                    expected.extend(scores.iter().enumerate().map(|(unit, score)| {
                        (sample as i32, 4, layer as i32, kind.to_string(), unit as i32, *score)
                    }));
                }
            }
        }
        assert!(!path.exists(), "the file must not appear before it is whole");
        assert_eq!(writer.finish().unwrap(), expected.len() as u64);
        let (rows, groups) = read(&path);
        assert_eq!(rows, expected);
        assert_eq!(groups, expected.len().div_ceil(7));
    }

    #[test]
    fn a_file_takes_little_more_than_its_scores() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.parquet");
        let mut writer = ScoreWriter::create(&path).unwrap();
        let scores: Vec<f32> = (0..1536).map(|unit| (unit as f32 * 0.7).sin()).collect();
        for token in 0..20 {
            for layer in 0..10 {
                writer.write(0, token, layer, UnitKind::Mlp, &scores).unwrap();
            }
        }
        let rows = writer.finish().unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < rows * 5, "{bytes} bytes for {rows} rows");
    }

    #[test]
    fn an_empty_file_is_valid_and_an_unfinished_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scores.parquet");
        let mut writer = ScoreWriter::create(&path).unwrap();
        writer.write(0, 0, 0, UnitKind::Mlp, &[1.0]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut writer = ScoreWriter::create(&path).unwrap();
        writer.write(0, 0, 0, UnitKind::Mlp, &[]).unwrap();
        assert_eq!(writer.finish().unwrap(), 0);
        assert_eq!(read(&path), (Vec::new(), 0));
    }
}
