//! Values of any length, as Postgres has them in memory.

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::UInt8Type;

use crate::rows::Encoding;

/// Bytes before the content of a variable-length value: its size.
pub(crate) const VARLENA_HEADER: usize = 4;
/// The greatest size that such a header can say.
pub(crate) const VARLENA_BYTES_MAX: usize = (1 << 30) - 1;

/// The header of a value of `size` bytes, itself included (`varatt.h`, SET_VARSIZE_4B); `None` if it is too large.
pub(crate) fn header(size: usize) -> Option<[u8; VARLENA_HEADER]> {
    let size = u32::try_from(size).ok().filter(|_| size <= VARLENA_BYTES_MAX)?;
    Some(if cfg!(target_endian = "big") { size.to_ne_bytes() } else { (size << 2).to_ne_bytes() })
}

/// Why Postgres cannot hold a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A text with a NUL character.
    Nul,
    /// So many bytes.
    TooLarge(usize),
    /// So many elements.
    TooManyElements(usize),
    /// Beyond the range of its type.
    OutOfRange(String),
    /// Of an Arrow type that was not to be expected.
    Unexpected(String),
}

/// Texts as the database has them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a>(pub(crate) &'a Encoding);

impl Texts<'_> {
    /// A text in the database's encoding.
    pub(crate) fn encode<'a>(&self, text: &'a str) -> Result<Cow<'a, [u8]>, Misfit> {
        if memchr::memchr(0, text.as_bytes()).is_some() {
            return Err(Misfit::Nul);
        }
        Ok(match self.0 {
            Encoding::Utf8 => Cow::Borrowed(text.as_bytes()),
            Encoding::Other(from_utf8) => Cow::Owned(from_utf8(text)),
        })
    }

    /// The text at an index of an array of texts or of an enum.
    pub(crate) fn text_at<'a>(&self, array: &'a ArrayRef, index: usize) -> Result<Cow<'a, [u8]>, Misfit> {
        let text = text_of(array, index).ok_or_else(|| Misfit::Unexpected(array.data_type().to_string()))?;
        self.encode(text)
    }
}

/// The text at an index of an array of texts or of an enum.
pub(crate) fn text_of(array: &ArrayRef, index: usize) -> Option<&str> {
    if let Some(text) = array.as_string_view_opt() {
        return Some(text.value(index));
    }
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names = dictionary.values().as_string_opt::<i32>()?;
    let key = usize::from(dictionary.keys().value(index));
    (key < names.len()).then(|| names.value(key))
}
