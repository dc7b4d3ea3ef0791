use super::*;

const ROOM: Bounds = Bounds { each: 100, total: 150 };

fn sha256(content: &[u8]) -> String {
    let digest = ring::digest::digest(&SHA256, content);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn new(name: &str, content: &[u8]) -> NewImage {
    NewImage {
        name: name.parse().unwrap(),
        sha256: sha256(content),
        software: Some("nos-1.0".parse().unwrap()),
        models: Vec::new(),
        octets: None,
    }
}

fn put(shelf: &Shelf, name: &str, content: &[u8]) -> Result<Image, ApiError> {
    let mut upload = shelf.begin(new(name, content))?.expect("it is new");
    for part in content.chunks(7) {
        upload.write(part)?;
    }
    upload.finish()
}

/// Names in the directory.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_image_is_there_whole_or_not_at_all_and_sha256sum_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path(), ROOM).unwrap();
    let image = put(&shelf, "nos.bin", b"content of an image").unwrap();
    assert_eq!((image.octets, image.software.unwrap().as_str()), (19, "nos-1.0"));
    let check = std::process::Command::new("sha256sum")
        .args(["--check", "--strict", SUMS])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
    // The same again costs nothing; other content needs another name.
    assert!(shelf.begin(new("nos.bin", b"content of an image")).unwrap().is_none());
    let other = shelf.begin(new("nos.bin", b"other")).unwrap_err();
    assert_eq!(other.code, ErrorCode::AlreadyExists);
    // An upload that breaks off, a damaged one, and an empty one.
    let mut broken = shelf.begin(new("b.bin", b"broken")).unwrap().unwrap();
    broken.write(b"bro").unwrap();
    drop(broken);
    let mut damaged = shelf.begin(new("c.bin", b"right")).unwrap().unwrap();
    damaged.write(b"wrong").unwrap();
    let said = damaged.finish().unwrap_err();
    assert!(
        said.code == ErrorCode::Invalid && said.to_string().contains(&sha256(b"wrong")),
        "{said}"
    );
    assert!(shelf.begin(new("d.bin", b"")).unwrap().unwrap().finish().is_err());
    assert_eq!(files(dir.path()), [SUMS, INDEX, "nos.bin"]);
    // The lists are not images. A file that was copied by hand is an image once its
    // digest is listed.
    assert!(shelf.begin(new(SUMS, b"x")).is_err());
    fs::write(dir.path().join("hand.bin"), "by hand").unwrap();
    let sums = fs::read_to_string(dir.path().join(SUMS)).unwrap();
    fs::write(
        dir.path().join(SUMS),
        format!("{sums}{} *hand.bin\n", sha256(b"by hand")),
    )
    .unwrap();
    let names: Vec<_> = shelf
        .list()
        .unwrap()
        .into_iter()
        .map(|i| (i.name.to_string(), i.uploaded_ms.is_some()))
        .collect();
    assert_eq!(names, [("hand.bin".to_owned(), false), ("nos.bin".to_owned(), true)]);
}

#[test]
fn what_was_not_ended_is_gone_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path(), ROOM).unwrap();
    put(&shelf, "nos.bin", b"content").unwrap();
    fs::write(dir.path().join(".upload-7"), "half").unwrap();
    fs::write(dir.path().join(".upload-SHA256SUMS"), "half").unwrap();
    let shelf = Shelf::open(dir.path(), ROOM).unwrap();
    assert_eq!(files(dir.path()), [SUMS, INDEX, "nos.bin"]);
    assert_eq!(shelf.list().unwrap().len(), 1);
}

#[test]
fn each_image_and_all_together_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path(), ROOM).unwrap();
    let code = |result: Result<Image, ApiError>| result.unwrap_err().code;
    assert_eq!(code(put(&shelf, "a.bin", &[2; 101])), ErrorCode::TooLarge);
    put(&shelf, "a.bin", &[1; 100]).unwrap();
    assert_eq!(code(put(&shelf, "b.bin", &[2; 51])), ErrorCode::Exhausted);
    // What a caller announces is reserved, also against others that say nothing.
    let announced = |name: &str, octets| NewImage {
        octets: Some(octets),
        ..new(name, b"x")
    };
    assert_eq!(
        shelf.begin(announced("c.bin", 51)).unwrap_err().code,
        ErrorCode::Exhausted
    );
    let first = shelf.begin(announced("c.bin", 30)).unwrap();
    assert_eq!(code(put(&shelf, "d.bin", &[2; 21])), ErrorCode::Exhausted);
    put(&shelf, "e.bin", &[2; 20]).unwrap();
    drop(first);
    put(&shelf, "d.bin", &[2; 21]).unwrap();
    // Uploads at a time, and one of a name.
    let held = shelf.begin(new("f.bin", b"f")).unwrap();
    assert_eq!(shelf.begin(new("f.bin", b"f")).unwrap_err().code, ErrorCode::TooMany);
    drop(held);
    let held: Vec<_> = (0..UPLOADS)
        .map(|i| shelf.begin(new(&format!("g{i}"), b"g")).unwrap())
        .collect();
    assert_eq!(shelf.begin(new("h", b"h")).unwrap_err().code, ErrorCode::TooMany);
    drop(held);
    assert_eq!(files(dir.path()), [SUMS, "a.bin", "d.bin", "e.bin", INDEX]);
}

#[test]
fn a_deleted_image_leaves_the_list_first_and_may_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(dir.path(), ROOM).unwrap();
    put(&shelf, "nos.bin", b"content").unwrap();
    let name: Label = "nos.bin".parse().unwrap();
    let kept = shelf
        .delete(&name, |_| Err(ApiError::new(ErrorCode::InUse, "needed")))
        .unwrap_err();
    assert_eq!((kept.code, shelf.list().unwrap().len()), (ErrorCode::InUse, 1));
    shelf.delete(&name, |_| Ok(())).unwrap();
    assert!(!dir.path().join("nos.bin").exists() && shelf.list().unwrap().is_empty());
    assert_eq!(shelf.delete(&name, |_| Ok(())).unwrap_err().code, ErrorCode::NotFound);
    put(&shelf, "nos.bin", b"other").unwrap();
}

/// A full disk, for real: a small file system in memory. Needs root.
#[test]
fn a_full_disk_leaves_nothing_half() {
    struct Mount(PathBuf);
    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small");
    fs::create_dir(&path).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(mounted.success(), "this test needs root");
    let _mount = Mount(path.clone());
    let large = Bounds {
        each: 1 << 30,
        total: 1 << 30,
    };
    let shelf = Shelf::open(&path, large).unwrap();
    put(&shelf, "a.bin", &[1; 100_000]).unwrap();
    let before = files(&path);
    let full = put(&shelf, "b.bin", &[2; 300_000]).unwrap_err();
    assert!(
        full.code == ErrorCode::Exhausted && full.detail.contains("no room"),
        "{full}"
    );
    assert_eq!(files(&path), before);
    // What is there is still whole, and a smaller one finds room.
    put(&shelf, "c.bin", &[3; 50_000]).unwrap();
    assert_eq!(shelf.list().unwrap().len(), 2);
}
