//! Wrong uses of the derives and what the compiler says to them. `twin.rs` is what is right.

#[test]
#[ignore = "checks all dependencies once more, which takes minutes"]
fn wrong_uses_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
