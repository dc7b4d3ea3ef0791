//! The commands of `docs/first-use.md`, run exactly as written. Needs root.

mod page;

#[test]
fn every_command_of_the_first_use_does_what_it_says() {
    let said = page::run("first-use.md", "");
    assert_eq!(said.matches(" 0% packet loss").count(), 3, "{said}");
    assert!(said.contains("the file and the fabric differ"), "{said}");
}
