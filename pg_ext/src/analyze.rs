//! `ANALYZE`: a sample of rows, and how many there are, which the log knows.

use soa_core::scan::{ScanPlan, ScanRequest};

use crate::error::Result;
use crate::ffi;
use crate::rows::{Chunk, Encoding, Rows};
use crate::table::{BoundColumn, Table};

/// Gives rows from everywhere in a store, in order.
pub(crate) struct Sample {
    plan: ScanPlan,
    columns: Vec<BoundColumn>,
}

impl Sample {
    /// Looks at the newest snapshot of a table's store.
    pub(crate) fn of(table: &Table) -> Result<Self> {
        let snapshot = table.newest()?;
        let numbers: Vec<i16> = table.attributes.iter().map(|attribute| attribute.number).collect();
        let columns = table.bind(&numbers, &snapshot)?;
        let request =
            ScanRequest { columns: columns.iter().map(|column| column.store_column).collect(), ..Default::default() };
        Ok(Self { plan: snapshot.plan(&request)?, columns })
    }

    /// How many rows there are.
    pub(crate) fn row_count(&self) -> u64 {
        self.plan.row_count()
    }

    /// Gives `wanted` rows to `take`, one at a time, for slots of `width` columns; all if there are no more. Every row is as
    /// likely as every other: it is Knuth's algorithm S (The Art of Computer Programming, volume 2, 3.4.2). `random` gives
    /// numbers from 0 to below 1.
    pub(crate) fn take(
        &self,
        wanted: u64,
        width: usize,
        encoding: Encoding,
        random: &mut dyn FnMut() -> f64,
        take: &mut dyn FnMut(&mut Chunk) -> Result<()>,
    ) -> Result<()> {
        let mut rows = Rows::new(&self.columns, width, encoding)?;
        let mut wanted = wanted.min(self.row_count());
        let mut left = self.row_count();
        for (index, unit) in self.plan.units().iter().enumerate() {
            ffi::check_for_interrupts();
            let mut chosen = Vec::new();
            for row in 0..unit.row_count() {
                if random() * (left as f64) < wanted as f64 {
                    chosen.push(row);
                    wanted -= 1;
                }
                left -= 1;
            }
            if chosen.is_empty() {
                continue;
            }
            let batch = self.plan.read(index)?;
            for row in chosen {
                rows.set_batch(&batch.slice(row, 1));
                if rows.fill()? {
                    take(rows.chunk_mut())?;
                }
            }
        }
        Ok(())
    }
}
