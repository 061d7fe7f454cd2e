//! Neuron statistics as files: one row per unit, Parquet and CSV.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::scores::write_column;
use super::{NeuronStats, UnitStats};
use crate::ReportError;
use crate::atomic::AtomicFile;

impl NeuronStats {
    /// Writes one row per unit as CSV with a header line.
    ///
    /// # Errors
    /// [`ReportError::Io`] when the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), ReportError> {
        let mut file = AtomicFile::create(path)?;
        let mut text = String::from("layer,kind,unit,tokens,mean,std,mean_abs,max");
        for column in self.kept_columns() {
            text.push(',');
            text.push_str(&column);
        }
        text.push('\n');
        for row in self.rows() {
            row.push_csv(&mut text);
            file.write_all(text.as_bytes()).map_err(|source| ReportError::write(path, source))?;
            text.clear();
        }
        file.write_all(text.as_bytes()).map_err(|source| ReportError::write(path, source))?;
        file.commit()
    }

    /// Writes one row per unit as Parquet.
    ///
    /// # Errors
    /// [`ReportError`] when the file cannot be written.
    pub fn write_parquet(&self, path: &Path) -> Result<(), ReportError> {
        let file = AtomicFile::create(path)?;
        self.encode(file)
            .map_err(|source| ReportError::Parquet { path: path.to_owned(), source })?
            .commit()
    }

    fn encode(&self, file: AtomicFile) -> ParquetResult<AtomicFile> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("fewron ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        let schema = Arc::new(parse_message_type(&self.schema())?);
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let rows: Vec<UnitStats> = self.rows().collect();
        if !rows.is_empty() {
            let mut group = writer.next_row_group()?;
            self.encode_rows(&mut group, &rows)?;
            group.close()?;
        }
        writer.into_inner()
    }

    fn encode_rows(
        &self,
        group: &mut SerializedRowGroupWriter<'_, AtomicFile>,
        rows: &[UnitStats],
    ) -> ParquetResult<()> {
        let ints = |value: fn(&UnitStats) -> u32| -> Vec<i32> {
            rows.iter().map(|row| value(row).cast_signed()).collect()
        };
        let floats =
            |value: fn(&UnitStats) -> f32| -> Vec<f32> { rows.iter().map(value).collect() };
        let kinds: Vec<ByteArray> = rows.iter().map(|row| row.kind.as_str().into()).collect();
        let tokens: Vec<i64> = rows.iter().map(|row| row.tokens.cast_signed()).collect();
        write_column::<Int32Type>(group, [ints(|row| row.layer)].iter())?;
        write_column::<ByteArrayType>(group, [kinds].iter())?;
        write_column::<Int32Type>(group, [ints(|row| row.unit)].iter())?;
        write_column::<Int64Type>(group, [tokens].iter())?;
        for value in [
            |row: &UnitStats| row.mean,
            |row: &UnitStats| row.std,
            |row: &UnitStats| row.mean_abs,
            |row: &UnitStats| row.max,
        ] {
            write_column::<FloatType>(group, [floats(value)].iter())?;
        }
        for ratio in 0..self.ratios.len() {
            let kept: Vec<f32> = rows.iter().map(|row| row.kept[ratio]).collect();
            write_column::<FloatType>(group, [kept].iter())?;
        }
        Ok(())
    }

    fn schema(&self) -> String {
        let mut schema = String::from(
            "message neurons {
                required int32 layer;
                required binary kind (utf8);
                required int32 unit;
                required int64 tokens;
                required float mean;
                required float std;
                required float mean_abs;
                required float max;",
        );
        for column in self.kept_columns() {
            let _ = write!(schema, "required float {column};");
        }
        schema.push('}');
        schema
    }
}

impl UnitStats {
    fn push_csv(&self, text: &mut String) {
        let _ = write!(
            text,
            "{},{},{},{},{},{},{},{}",
            self.layer,
            self.kind,
            self.unit,
            self.tokens,
            self.mean,
            self.std,
            self.mean_abs,
            self.max
        );
        for share in &self.kept {
            let _ = write!(text, ",{share}");
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use crate::parquet::stats::tests::sample;

    #[test]
    fn parquet_and_csv_hold_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (table, text) = (folder.path().join("n.parquet"), folder.path().join("n.csv"));
        let stats = sample();
        stats.write_parquet(&table).unwrap();
        stats.write_csv(&text).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&table).unwrap()).unwrap();
        let csv = std::fs::read_to_string(&text).unwrap();
        assert_eq!(
            csv.lines().next(),
            Some("layer,kind,unit,tokens,mean,std,mean_abs,max,kept_at_50,kept_at_80")
        );
        assert_eq!(csv.lines().count(), 6);
        for (row, unit) in reader.get_row_iter(None).unwrap().zip(stats.rows()) {
            let row = row.unwrap();
            assert_eq!(row.get_int(0).unwrap().cast_unsigned(), unit.layer);
            assert_eq!(row.get_string(1).unwrap(), unit.kind.as_str());
            assert_eq!(row.get_float(5).unwrap(), unit.std);
            assert_eq!(row.get_float(9).unwrap(), unit.kept[1]);
        }
    }
}
