use super::*;

fn numbers(count: u64) -> Column<u64> {
    let mut column = Column::new();
    (0..count).for_each(|number| column.push(number));
    column
}

#[test]
fn sharing_moves_nothing_and_writing_copies_only_what_is_shared() {
    let mut column = numbers(1_000);
    let before = column.as_slice().as_ptr();
    let slice = column.as_slice();
    let shared = column.share();
    assert_eq!(slice.as_ptr(), before, "a slice that is out stays valid");
    assert_eq!((shared.as_ptr(), column.share().as_ptr(), column.as_slice().as_ptr()), (before, before, before));
    column.as_mut_slice()[0] = 7;
    assert_ne!(column.as_slice().as_ptr(), before);
    assert_eq!((shared[0], column.as_slice()[0], shared.len()), (0, 7, 1_000));
    column.reserve(1);
    let before = column.as_slice().as_ptr();
    drop(column.share());
    column.push(1);
    assert_eq!(column.as_slice().as_ptr(), before, "given back, so not copied");
    assert_eq!(column.len(), 1_001);
}

#[test]
fn columns_move_out_and_back() {
    let column = numbers(100);
    let before = column.as_slice().as_ptr();
    let moved = column.into_scalar_buffer();
    assert_eq!(moved.as_ptr(), before);
    let mut back = Column::from_scalar_buffer(moved);
    back.swap_remove(0);
    back.push(5);
    assert_eq!(back.as_slice().as_ptr(), before);
    assert_eq!((back.len(), back.as_slice()[0], back.as_slice()[99]), (100, 99, 5));
    let shared = back.share();
    let again = back.into_scalar_buffer();
    assert_eq!((again.as_ptr(), shared.as_ptr()), (before, before));
}

#[test]
fn slices_of_buffers_are_shared_until_written() {
    let whole = numbers(100).into_scalar_buffer();
    let mut part = Column::from_scalar_buffer(whole.slice(10, 5));
    assert_eq!(part.as_slice(), [10, 11, 12, 13, 14]);
    assert_eq!(part.as_slice().as_ptr(), whole[10..].as_ptr());
    part.push(15);
    assert_eq!((part.as_slice(), whole[15]), (&[10, 11, 12, 13, 14, 15][..], 15));
    // A buffer that ends in part of a value.
    let bytes = Buffer::from_vec(vec![1_u64, 2]).slice_with_length(0, 12);
    let mut part = Column::from_scalar_buffer(ScalarBuffer::<u64>::from(bytes));
    assert_eq!(part.share().inner().len(), 8);
    part.push(3);
    assert_eq!(part.as_slice(), [1, 3]);
}

#[test]
fn truncating_what_is_shared_copies_nothing() {
    let mut column = numbers(100);
    let shared = column.share();
    column.truncate(10);
    column.truncate(50);
    assert_eq!((column.len(), column.share().len(), column.as_slice().as_ptr()), (10, 10, shared.as_ptr()));
    drop(shared);
    column.push(1);
    assert_eq!((column.len(), column.as_slice()[10]), (11, 1));
    column.clear();
    assert!(column.is_empty());
}

#[test]
fn empty_columns_can_be_shared() {
    let mut column = Column::<u32>::default();
    assert_eq!(column.share().len(), 0);
    column.push(1);
    assert_eq!(column.clone().into_scalar_buffer().as_ref(), [1]);
    let mut column = Column::<u128>::with_capacity(10);
    assert_eq!((column.share().len(), column.capacity()), (0, 10));
    column.shrink_to_fit();
    assert_eq!(column.capacity(), 0);
    column.extend_from_slice(&[1, 2]);
    assert_eq!(format!("{column:?}"), "[1, 2]");
}

#[test]
fn shrinking_leaves_what_others_hold() {
    let mut column = numbers(1_000);
    column.truncate(3);
    let shared = column.share();
    column.shrink_to_fit();
    assert_eq!(column.as_slice().as_ptr(), shared.as_ptr());
    drop(shared);
    column.shrink_to_fit();
    assert_eq!((column.capacity(), column.as_slice()), (3, &[0, 1, 2][..]));
}

#[test]
fn threads_may_share_at_once() {
    let column = numbers(1_000);
    let before = column.as_slice().as_ptr() as usize;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let slice = column.as_slice();
                let shared = column.share();
                assert_eq!(shared.as_ptr() as usize, before);
                assert_eq!(slice.iter().sum::<u64>(), shared.iter().sum::<u64>());
            });
        }
    });
    assert_eq!(column.into_scalar_buffer()[999], 999);
}

#[test]
fn large_columns_grow_by_less_than_others() {
    let mut column = Column::<u64>::new();
    let mut largest = 0.0_f64;
    for number in 0..300_000_u64 {
        column.push(number);
        if number > 20_000 {
            largest = largest.max(column.capacity() as f64 / column.len() as f64);
        }
    }
    assert!(largest <= 1.875, "{largest}");
    assert!(column.as_slice().iter().copied().eq(0..300_000));
}

#[test]
fn indices_stay_below_their_bound() {
    let mut indices = Indices::new(3);
    indices.push(2);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| indices.push(3))).is_err());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| indices.set(0, 3))).is_err());
    assert_eq!(indices.as_slice(), [2]);
    assert!(Indices::from_keys(ScalarBuffer::from(vec![0, 3]), 3).is_none());
    assert!(Indices::from_keys(ScalarBuffer::from(Vec::new()), 0).is_some());
    let names: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["a", "b"]));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| indices.to_dictionary(&names, None))).is_err());
}

fn words(count: usize, len: usize) -> Text {
    let mut text = Text::default();
    (0..count).for_each(|n| text.push(&format!("{n:>len$}")));
    text
}

#[test]
fn text_of_every_length_is_kept() {
    let mut text = Text::default();
    let long = "ß".repeat(BLOCK_BYTES);
    let values = ["", "a", "twelve bytes", "thirteen byte", "é", "\0", &long, "after"];
    values.iter().for_each(|value| text.push(value));
    assert!(text.iter().eq(values));
    assert_eq!(text.iter().next_back(), Some("after"));
    let array = text.to_array(None);
    arrow::array::Array::to_data(&array).validate_full().unwrap();
    assert!(Text::from_array(&array).iter().eq(values));
    assert!(!text.is_empty());
}

#[test]
fn blocks_are_bounded_and_hold_little_more_than_the_text() {
    let mut text = words(200_000, 50);
    assert!(text.blocks.len() >= 4, "{} blocks", text.blocks.len());
    assert!(text.blocks.iter().all(|block| block.len() <= BLOCK_BYTES));
    text.shrink_to_fit();
    let least = 200_000 * (16 + 50);
    assert!(text.memory_bytes() < least + least / 100, "{} for {least}", text.memory_bytes());
}

#[test]
fn text_that_went_is_collected_once_it_is_more_than_half() {
    let mut text = words(1_000, 100);
    assert_eq!((text.live, text.frozen + text.tail.len()), (100_000, 100_000));
    for row in 0..500 {
        text.set(row, "short");
    }
    assert_eq!((text.live, text.frozen + text.tail.len()), (50_000, 100_000));
    text.set(500, "short");
    assert_eq!((text.live, text.frozen + text.tail.len()), (49_900, 49_900));
    assert!((501..1_000).all(|row| text.get(row).trim() == row.to_string()));
    while text.len() > 501 {
        text.swap_remove(501);
    }
    assert_eq!(text.live, 0);
    assert!(text.frozen + text.tail.len() <= COLLECT_BYTES);
    text.truncate(2);
    assert!(text.iter().eq(["short", "short"]));
    text.clear();
    assert_eq!((text.len(), text.live, text.frozen), (0, 0, 0));
}

#[test]
fn sharing_after_every_push_does_not_leave_a_block_each() {
    let mut text = Text::default();
    let mut arrays = Vec::new();
    for n in 0..2_000 {
        text.push(&format!("{n:>50}"));
        arrays.push(text.to_array(None));
    }
    let blocks = text.blocks.len();
    assert!(blocks < 40, "{blocks} blocks for {} bytes", text.live);
    assert!(text.iter().enumerate().all(|(n, value)| value.trim() == n.to_string()));
    assert!(arrays.iter().enumerate().all(|(n, array)| array.value(n).trim() == n.to_string()));
}
