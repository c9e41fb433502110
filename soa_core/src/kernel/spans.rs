//! Rows that have any number of elements each: where each row's are in the columns of the elements.

use std::ops::Range;

use arrow::buffer::OffsetBuffer;

use super::buffer::Column;

/// The columns of the elements.
pub(super) trait Elements: Clone + Default {
    /// How many elements there are.
    fn element_count(&self) -> usize;

    /// Appends elements of others.
    fn append_from(&mut self, other: &Self, elements: Range<usize>);

    fn keep_first(&mut self, len: usize);

    fn make_room(&mut self, additional: usize);

    fn give_back(&mut self);

    fn byte_count(&self) -> usize;
}

/// Rows of elements, in Arrow's layout of lists until a row in the middle gets other elements, or there are more than Arrow's
/// offsets count: from then on each row says where its elements are, and what is elements no longer is left behind until it is
/// as much as what is.
#[derive(Clone, Default)]
pub(super) struct Spans<E> {
    elements: E,
    /// Where the elements of each row begin, and where those of the last end. Empty where no row was ever there.
    offsets: Column<i32>,
    /// Instead of the offsets, once a row was moved.
    moved: Option<Moved>,
}

#[derive(Clone)]
struct Moved {
    spans: Vec<Range<usize>>,
    /// The elements that rows have.
    live: usize,
}

/// So many elements may be left behind, whatever there are.
const LEFT_MIN: usize = 1 << 10;

impl<E: Elements> Spans<E> {
    /// Rows whose elements end where these offsets say; those of the last are the last elements.
    pub(super) fn from_offsets(offsets: &OffsetBuffer<i32>, elements: E) -> Self {
        Self { elements, offsets: Column::from_scalar_buffer(offsets.inner().clone()), moved: None }
    }

    pub(super) fn elements(&self) -> &E {
        &self.elements
    }

    pub(super) fn len(&self) -> usize {
        match &self.moved {
            Some(moved) => moved.spans.len(),
            None => self.offsets.len().saturating_sub(1),
        }
    }

    /// Where the elements of a row are. Panics when there is no such row.
    #[inline]
    pub(super) fn span(&self, row: usize) -> Range<usize> {
        match &self.moved {
            Some(moved) => moved.spans[row].clone(),
            None => {
                let offsets = &self.offsets.as_slice()[row..row + 2];
                offsets[0] as usize..offsets[1] as usize
            }
        }
    }

    /// Appends a row of the elements that `add` appends.
    #[inline]
    pub(super) fn push(&mut self, add: impl FnOnce(&mut E)) {
        let start = self.elements.element_count();
        add(&mut self.elements);
        let end = self.elements.element_count();
        if let (None, Ok(offset)) = (&self.moved, i32::try_from(end)) {
            if self.offsets.is_empty() {
                // Not after `end`, so it fits as well.
                self.offsets.push(start as i32);
            }
            return self.offsets.push(offset);
        }
        let moved = self.moved();
        moved.live += end - start;
        moved.spans.push(start..end);
    }

    /// Gives a row the elements that `add` appends instead of those it has. Panics when there is no such row.
    pub(super) fn replace(&mut self, row: usize, add: impl FnOnce(&mut E)) {
        let old = self.span(row);
        if row + 1 == self.len() && self.moved.is_none() {
            self.truncate(row);
            return self.push(add);
        }
        let start = self.elements.element_count();
        add(&mut self.elements);
        let end = self.elements.element_count();
        let moved = self.moved();
        moved.live = moved.live - old.len() + (end - start);
        moved.spans[row] = start..end;
        self.collect();
    }

    /// The rows as spans, made when they are none yet.
    fn moved(&mut self) -> &mut Moved {
        let offsets = &self.offsets;
        self.moved.get_or_insert_with(|| {
            let ends = offsets.as_slice();
            let spans: Vec<Range<usize>> = ends.windows(2).map(|ends| ends[0] as usize..ends[1] as usize).collect();
            Moved { live: spans.iter().map(Range::len).sum(), spans }
        })
    }

    /// Leaves behind what is elements no longer, once that is half of all.
    fn collect(&mut self) {
        if self.moved.as_ref().is_some_and(|moved| self.elements.element_count() > 2 * moved.live + LEFT_MIN) {
            *self = self.gathered(0..self.len());
        }
    }

    /// Rows of these alone, in Arrow's layout where it can count their elements.
    pub(super) fn gathered(&self, rows: impl Iterator<Item = usize> + Clone) -> Self {
        let mut gathered = Self::default();
        let spans = rows.map(|row| self.span(row));
        gathered.elements.make_room(spans.clone().map(|span| span.len()).sum());
        gathered.offsets.reserve(spans.size_hint().0 + 1);
        for span in spans {
            gathered.push(|elements| elements.append_from(&self.elements, span));
        }
        gathered
    }

    /// Some of the rows: `None` where Arrow can share them without gathering.
    pub(super) fn slice(&self, rows: Range<usize>) -> Option<Self> {
        self.moved.is_some().then(|| self.gathered(rows))
    }

    pub(super) fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        for row in rows {
            self.push(|elements| elements.append_from(&other.elements, other.span(row)));
        }
    }

    pub(super) fn rearrange(&mut self, rows: impl Iterator<Item = usize> + Clone) {
        *self = self.gathered(rows);
    }

    pub(super) fn swap(&mut self, left: usize, right: usize) {
        self.moved().spans.swap(left, right);
    }

    pub(super) fn swap_remove(&mut self, row: usize) {
        if row + 1 == self.len() {
            return self.truncate(row);
        }
        let moved = self.moved();
        let gone = moved.spans.swap_remove(row);
        moved.live -= gone.len();
        self.collect();
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if len >= self.len() {
            return;
        }
        match &mut self.moved {
            Some(moved) => {
                moved.live -= moved.spans[len..].iter().map(Range::len).sum::<usize>();
                moved.spans.truncate(len);
                self.collect();
            }
            None => {
                let end = self.offsets.as_slice()[len] as usize;
                self.offsets.truncate(len + 1);
                self.elements.keep_first(end);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.moved = None;
        self.offsets.clear();
        self.elements.keep_first(0);
    }

    pub(super) fn reserve(&mut self, additional: usize) {
        match &mut self.moved {
            Some(moved) => moved.spans.reserve(additional),
            None => self.offsets.reserve(additional + 1),
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if self.moved.is_some() {
            *self = self.gathered(0..self.len());
        }
        self.offsets.shrink_to_fit();
        self.elements.give_back();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let spans = self.moved.as_ref().map_or(0, |moved| moved.spans.capacity() * size_of::<Range<usize>>());
        self.elements.byte_count() + self.offsets.capacity() * size_of::<i32>() + spans
    }

    /// The offsets and elements as Arrow has them; gathered where rows were moved.
    ///
    /// # Panics
    ///
    /// When there are 2^31 elements or more: Arrow's offsets count no further.
    pub(super) fn in_order(&self) -> (OffsetBuffer<i32>, E) {
        if let Some(moved) = &self.moved {
            let most = i32::MAX;
            assert!(
                i32::try_from(moved.live).is_ok(),
                "an Arrow array of lists has at most {most} elements, these have {}: share the rows in slices",
                moved.live
            );
            return self.gathered(0..self.len()).in_order();
        }
        let offsets = match self.offsets.is_empty() {
            true => OffsetBuffer::new_empty(),
            // They ascend, and the first is not negative.
            false => OffsetBuffer::new(self.offsets.share()),
        };
        (offsets, self.elements.clone())
    }
}
