//! Rows for people and for programs: an aligned table, CSV, JSON.

use std::io::Write;
use std::sync::Arc;

use soa_core::Error;
use soa_core::arrow::array::RecordBatch;
use soa_core::arrow::csv;
use soa_core::arrow::datatypes::{Schema, SchemaRef};
use soa_core::arrow::error::ArrowError;
use soa_core::arrow::json;
use soa_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use crate::CommandResult;

/// So many rows of an aligned table are held, to know how wide its columns are. Columns of further rows may be wider.
const PAGE_ROWS: usize = 10_000;
const TIMESTAMP: &str = "%Y-%m-%d %H:%M:%S%.f";
const TIMESTAMP_WITH_ZONE: &str = "%Y-%m-%d %H:%M:%S%.f%:z";

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Aligned,
    Csv,
    Json,
}

/// Prints rows as they come.
pub(crate) enum Printer {
    Aligned(Aligned),
    Csv { schema: SchemaRef, has_header: bool },
    Json(SchemaRef),
}

impl Printer {
    pub(crate) fn new(format: Format, schema: SchemaRef) -> Self {
        match format {
            Format::Aligned => Self::Aligned(Aligned::new(&schema)),
            Format::Csv => Self::Csv { schema, has_header: false },
            Format::Json => Self::Json(with_unique_names(&schema)),
        }
    }

    pub(crate) fn print(&mut self, batch: &RecordBatch) -> CommandResult {
        match self {
            Self::Aligned(table) => table.print(batch),
            Self::Csv { has_header, .. } => {
                let header = !std::mem::replace(has_header, true);
                print_csv(batch, header)
            }
            Self::Json(schema) => {
                let batch = RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec()).map_err(cannot_print)?;
                let mut text = Vec::new();
                let writer = json::WriterBuilder::new().with_explicit_nulls(true);
                let mut writer = writer.build::<_, json::writer::LineDelimited>(&mut text);
                writer.write(&batch).and_then(|()| writer.finish()).map_err(cannot_print)?;
                drop(writer);
                Ok(std::io::stdout().write_all(&text)?)
            }
        }
    }

    pub(crate) fn finish(self) -> CommandResult {
        match self {
            Self::Aligned(table) => table.finish()?,
            Self::Csv { schema, has_header: false } => print_csv(&RecordBatch::new_empty(schema), true)?,
            Self::Csv { .. } | Self::Json(_) => {}
        }
        Ok(std::io::stdout().flush()?)
    }
}

/// CSV has no place for values inside others.
///
/// # Errors
///
/// Naming a column of them, and what to do.
pub(crate) fn check_csv(schema: &Schema, instead: &str) -> soa_core::Result<()> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(field) => Err(Error::InvalidArgument {
            message: format!(
                "the column \"{}\" has lists, structs or maps, which CSV cannot hold; {instead}",
                field.name()
            ),
        }),
    }
}

fn print_csv(batch: &RecordBatch, header: bool) -> CommandResult {
    check_csv(&batch.schema(), "use --json, or select what is inside")?;
    let mut text = Vec::new();
    csv::WriterBuilder::new().with_header(header).build(&mut text).write(batch).map_err(cannot_print)?;
    Ok(std::io::stdout().write_all(&text)?)
}

fn cannot_print(source: ArrowError) -> Error {
    Error::Arrow { context: "cannot print rows".to_owned(), source }
}

/// The same columns, none named as another: `id`, `id_1`.
fn with_unique_names(schema: &SchemaRef) -> SchemaRef {
    let mut taken: std::collections::HashSet<String> =
        schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut seen = std::collections::HashSet::new();
    let unique = schema.fields().iter().map(|field| {
        if seen.insert(field.name().clone()) {
            return Arc::clone(field);
        }
        let name = (1..).map(|n| format!("{}_{n}", field.name())).find(|name| taken.insert(name.clone()));
        Arc::new(field.as_ref().clone().with_name(name.unwrap_or_default()))
    });
    Arc::new(Schema::new(unique.collect::<Vec<_>>()))
}

/// A table whose columns are aligned: numbers to the right, all else to the left.
pub(crate) struct Aligned {
    names: Vec<String>,
    is_number: Vec<bool>,
    widths: Vec<usize>,
    page: Vec<Vec<String>>,
    rows: u64,
    has_header: bool,
}

impl Aligned {
    fn new(schema: &SchemaRef) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| printable(field.name())).collect();
        let is_number = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        let widths = names.iter().map(|name| cell_width(name)).collect();
        Self { names, is_number, widths, page: Vec::new(), rows: 0, has_header: false }
    }

    fn print(&mut self, batch: &RecordBatch) -> CommandResult {
        let options = FormatOptions::new()
            .with_display_error(false)
            .with_null("NULL")
            .with_timestamp_format(Some(TIMESTAMP))
            .with_timestamp_tz_format(Some(TIMESTAMP_WITH_ZONE));
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(cannot_print)?;
        for row in 0..batch.num_rows() {
            let cell = |column: &ArrayFormatter<'_>| column.value(row).try_to_string().map(|text| printable(&text));
            let cells = columns.iter().map(cell).collect::<Result<Vec<_>, _>>().map_err(cannot_print)?;
            for (width, cell) in self.widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell_width(cell));
            }
            self.page.push(cells);
            if self.page.len() == PAGE_ROWS {
                self.print_page()?;
            }
        }
        Ok(())
    }

    fn print_page(&mut self) -> CommandResult {
        let mut text = String::new();
        if !std::mem::replace(&mut self.has_header, true) {
            self.write_row(&self.names, &mut text);
            let rules: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&rules.join("+"));
            text.push('\n');
        }
        for row in &self.page {
            self.write_row(row, &mut text);
        }
        self.rows += self.page.len() as u64;
        self.page.clear();
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    /// A row has as many lines as the cell that has most.
    fn write_row(&self, cells: &[String], text: &mut String) {
        let lines: Vec<Vec<&str>> = cells.iter().map(|cell| cell.split('\n').collect()).collect();
        let height = lines.iter().map(Vec::len).max().unwrap_or(1);
        for at in 0..height {
            let start = text.len();
            for (column, lines) in lines.iter().enumerate() {
                let line = lines.get(at).copied().unwrap_or_default();
                let space = " ".repeat(self.widths[column].saturating_sub(line.width()));
                let (before, after) = if self.is_number[column] { (&*space, "") } else { ("", &*space) };
                text.push_str(if column == 0 { " " } else { "| " });
                text.extend([before, line, after, " "]);
            }
            text.truncate(start + text[start..].trim_end().len());
            text.push('\n');
        }
    }

    fn finish(mut self) -> CommandResult {
        self.print_page()?;
        let count = if self.rows == 1 { "(1 row)".to_owned() } else { format!("({} rows)", self.rows) };
        Ok(crate::print_line(&count)?)
    }
}

fn cell_width(cell: &str) -> usize {
    cell.split('\n').map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// Text that does nothing to a terminal but appear there. A line end at its end is left out.
fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.strip_suffix('\n').unwrap_or(text).chars() {
        if c.is_control() && c != '\n' { result.extend(c.escape_default()) } else { result.push(c) }
    }
    result
}
