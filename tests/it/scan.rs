//! `keyward scan` and `keyward scan-patterns`: keys in files, found without a server.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::support::{forged, has, keyward, skip};

fn scan(dir: &Path, arguments: &[&str]) -> Output {
    keyward().current_dir(dir).arg("scan").args(arguments).output().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn keys_are_found_in_files_of_every_kind_and_never_shown_whole() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let key = forged("rg_leaked001");
    let other = forged("k2x_leaked01");
    fs::create_dir_all(at("a/b")).unwrap();
    fs::create_dir_all(at("a/.git")).unwrap();
    fs::write(at("a/b/env"), format!("A=1\n\nKEY=\"{key}\"\r\n{key}{other}")).unwrap();
    fs::write(at("a/binary"), [b"\0\xff\xfe", key.as_bytes(), b"\0"].concat()).unwrap();
    fs::write(at("a/.git/config"), &key).unwrap();
    fs::write(at("a/near"), format!("{}0 {}", &key[..49], &key[..48])).unwrap();
    symlink(at("a/b/env"), at("a/link")).unwrap();
    symlink(at("a"), at("a/b/loop")).unwrap();

    let prefix = &key[..12];
    let (code, out, err) = said(&scan(dir.path(), &["a"]));
    let expected = format!("a/binary:1: {prefix}…\na/b/env:3: {prefix}…\na/b/env:4: {prefix}…\n");
    assert_eq!((code, &*out, &*err), (1, &*expected, ""));
    let both = scan(dir.path(), &["--prefix", "rg", "--prefix", "k2x", "a/b", "-o", "json"]);
    let found: Value = serde_json::from_slice(&both.stdout).unwrap();
    let hit =
        |line: u64, key: &str| json!({ "path": "a/b/env", "line": line, "keyPrefix": key[..12] });
    let hits = json!([hit(3, &key), hit(4, &key), hit(4, &other)]);
    assert_eq!(found, json!({ "complete": true, "found": hits }));

    let named = said(&scan(dir.path(), &["a/.git", "a/link", "a/near"]));
    assert_eq!(named.1.lines().count(), 3, "{named:?}");
    assert_eq!(said(&scan(dir.path(), &["a/near"])), (0, String::new(), String::new()));
    fs::write(at("keyward.toml"), "[keys]\nprefix = \"k2x\"\n").unwrap();
    let configured = said(&scan(dir.path(), &["a"]));
    assert_eq!(configured.1, format!("a/b/env:4: {}…\n", &other[..12]));
}

#[test]
fn standard_input_is_a_file_and_a_file_that_cannot_be_read_is_no_good_answer() {
    let dir = tempfile::tempdir().unwrap();
    let key = forged("rg_leaked002");
    let mut program = keyward();
    program.current_dir(dir.path()).args(["scan", "-"]);
    let input = dir.path().join("input");
    fs::write(&input, format!("{}{key}\n", "\n".repeat(200_000))).unwrap();
    program.stdin(fs::File::open(&input).unwrap());
    let (code, out, _) = said(&program.output().unwrap());
    assert_eq!((code, out), (1, format!("-:200001: {}…\n", &key[..12])));

    fs::write(dir.path().join("clean"), "nothing").unwrap();
    let (code, out, err) = said(&scan(dir.path(), &["missing", "clean"]));
    assert_eq!((code, &*out), (1, ""));
    assert!(err.contains("missing cannot be used"), "{err}");
    let (code, _, err) = said(&scan(dir.path(), &["clean", "--prefix", "RG"]));
    assert_eq!(code, 2, "{err}");
}

#[test]
fn the_patterns_match_keys_and_nothing_shorter() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = keyward();
    program.current_dir(dir.path()).args(["scan-patterns", "--prefix", "rg", "--prefix", "k2x"]);
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let rules = config["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2);
    if !has(&["python3"]) {
        skip("matching the patterns needs python3");
        return;
    }
    for (rule, beginning) in rules.iter().zip(["rg_leaked003", "k2x_leaked03"]) {
        let key = forged(beginning);
        let (regex, keyword) = (rule["regex"].as_str().unwrap(), rule["keywords"][0].as_str());
        assert!(key.starts_with(keyword.unwrap()));
        assert_eq!(rule["secretGroup"].as_integer(), Some(1));
        let format = text.lines().find_map(|it| it.strip_prefix("#   Secret format: "));
        assert!(format.is_some_and(|it| text.contains(&format!("({it})"))), "{text}");
        let finds = |text: &str| {
            let code =
                "import re,sys; m=re.search(sys.argv[1],sys.argv[2]); print(m[1] if m else '')";
            let output = Command::new("python3").args(["-c", code, regex, text]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(finds(&format!("key = \"{key}\"")), key);
        assert_eq!(finds(&key), key);
        assert_eq!(finds(&format!("x{key}")), "");
        assert_eq!(finds(&key[..49]), "");
        assert_eq!(finds(&format!("{key}0")), "");
    }
}
