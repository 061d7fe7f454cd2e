//! A table of named columns, as Parquet and as CSV.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::scores::write_column;
use crate::ReportError;
use crate::atomic::AtomicFile;

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Column {
    Int(Vec<i32>),
    Long(Vec<i64>),
    Float(Vec<f32>),
    /// NaN where there is no value: an empty field in CSV.
    Double(Vec<f64>),
    Text(Vec<String>),
}

/// Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    columns: Vec<(String, Column)>,
}

impl Table {
    /// Adds a column.
    pub(crate) fn with(mut self, name: &str, column: Column) -> Self {
        debug_assert!(self.columns.is_empty() || column.len() == self.rows(), "{name}");
        self.columns.push((name.to_owned(), column));
        self
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// Writes `NAME.parquet` and `NAME.csv` into a folder.
    pub(crate) fn write_both(&self, folder: &Path, name: &str) -> Result<(), ReportError> {
        self.write_parquet(&folder.join(format!("{name}.parquet")))?;
        self.write_csv(&folder.join(format!("{name}.csv")))
    }

    /// Writes a Parquet file, Snappy-compressed, in one row group.
    pub(crate) fn write_parquet(&self, path: &Path) -> Result<(), ReportError> {
        let file = AtomicFile::create(path)?;
        self.encode(file)
            .map_err(|source| ReportError::Parquet { path: path.to_owned(), source })?
            .commit()
    }

    /// Writes a CSV file (RFC 4180) with a header.
    pub(crate) fn write_csv(&self, path: &Path) -> Result<(), ReportError> {
        let mut file = AtomicFile::create(path)?;
        let mut line: Vec<String> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        for row in 0..=self.rows() {
            let text = line.join(",") + "\n";
            file.write_all(text.as_bytes()).map_err(|source| ReportError::write(path, source))?;
            if row < self.rows() {
                line = self.columns.iter().map(|(_, column)| column.field(row)).collect();
            }
        }
        file.commit()
    }

    fn encode(&self, file: AtomicFile) -> ParquetResult<AtomicFile> {
        let properties = WriterProperties::builder()
            .set_created_by(concat!("fewron ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .build();
        let mut writer =
            SerializedFileWriter::new(file, Arc::new(self.schema()?), Arc::new(properties))?;
        if self.rows() > 0 {
            let mut group = writer.next_row_group()?;
            for (_, column) in &self.columns {
                column.encode(&mut group)?;
            }
            group.close()?;
        }
        writer.into_inner()
    }

    fn schema(&self) -> ParquetResult<Type> {
        let field = |(name, column): &(String, Column)| {
            let field = Type::primitive_type_builder(name, column.physical());
            let text = matches!(column, Column::Text(_)).then_some(LogicalType::String);
            let field = field.with_repetition(Repetition::REQUIRED).with_logical_type(text);
            Ok(Arc::new(field.build()?))
        };
        let fields = self.columns.iter().map(field).collect::<ParquetResult<_>>()?;
        Type::group_type_builder("table").with_fields(fields).build()
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Int(values) => values.len(),
            Self::Long(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    fn physical(&self) -> Physical {
        match self {
            Self::Int(_) => Physical::INT32,
            Self::Long(_) => Physical::INT64,
            Self::Float(_) => Physical::FLOAT,
            Self::Double(_) => Physical::DOUBLE,
            Self::Text(_) => Physical::BYTE_ARRAY,
        }
    }

    fn encode(&self, group: &mut SerializedRowGroupWriter<'_, AtomicFile>) -> ParquetResult<()> {
        match self {
            Self::Int(values) => write_column::<Int32Type>(group, [values].into_iter()),
            Self::Long(values) => write_column::<Int64Type>(group, [values].into_iter()),
            Self::Float(values) => write_column::<FloatType>(group, [values].into_iter()),
            Self::Double(values) => write_column::<DoubleType>(group, [values].into_iter()),
            Self::Text(values) => {
                let bytes: Vec<ByteArray> = values.iter().map(|v| v.as_str().into()).collect();
                write_column::<ByteArrayType>(group, [bytes].iter())
            }
        }
    }

    /// A value as a field of CSV.
    fn field(&self, row: usize) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Int(values) => write!(text, "{}", values[row]),
            Self::Long(values) => write!(text, "{}", values[row]),
            Self::Float(values) => write!(text, "{}", values[row]),
            Self::Double(values) if values[row].is_nan() => Ok(()),
            Self::Double(values) => write!(text, "{}", values[row]),
            Self::Text(values) => return quoted(&values[row]),
        };
        text
    }
}

/// A text as a field: in quotes where it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    fn table() -> Table {
        let names = ["plain", "with, comma", "\"quoted\"\nline"].map(String::from);
        Table::default()
            .with("name", Column::Text(names.to_vec()))
            .with("layer", Column::Int(vec![0, -1, 7]))
            .with("steps", Column::Long(vec![1, 2, 1 << 40]))
            .with("Law, and more.", Column::Float(vec![0.1, 0.25, 1e-7]))
            .with("z", Column::Double(vec![1.5, f64::NAN, -2e30]))
    }

    #[test]
    fn parquet_and_csv_hold_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        table().write_both(folder.path(), "t").unwrap();
        let csv = std::fs::read_to_string(folder.path().join("t.csv")).unwrap();
        assert_eq!(
            csv,
            "name,layer,steps,\"Law, and more.\",z\nplain,0,1,0.1,1.5\n\"with, comma\",-1,2,0.25,\n\
             \"\"\"quoted\"\"\nline\",7,1099511627776,0.0000001,-2000000000000000000000000000000\n"
        );
        let file = std::fs::File::open(folder.path().join("t.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[2].get_string(0).unwrap(), "\"quoted\"\nline");
        assert_eq!((rows[1].get_int(1).unwrap(), rows[2].get_long(2).unwrap()), (-1, 1 << 40));
        assert_eq!(rows[2].get_float(3).unwrap(), 1e-7);
        assert!(rows[1].get_double(4).unwrap().is_nan());
        let names = reader.metadata().file_metadata().schema_descr();
        assert_eq!(names.column(3).name(), "Law, and more.");
    }

    #[test]
    fn a_table_without_rows_has_a_header() {
        let folder = tempfile::tempdir().unwrap();
        let empty = Table::default().with("a", Column::Int(Vec::new()));
        empty.write_both(folder.path(), "t").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("t.csv")).unwrap(), "a\n");
        let file = std::fs::File::open(folder.path().join("t.parquet")).unwrap();
        assert_eq!(SerializedFileReader::new(file).unwrap().metadata().num_row_groups(), 0);
    }
}
