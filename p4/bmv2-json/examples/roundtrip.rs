//! Reads documents, writes them again and reports any that lose something.
fn main() {
    for path in std::env::args().skip(1) {
        let text = std::fs::read(&path).expect("readable file");
        let Ok(mut want) = serde_json::from_slice::<serde_json::Value>(&text) else {
            continue;
        };
        match bmv2_json::Program::from_slice(&text) {
            Err(e) => println!("{path}: {e}"),
            Ok(p) => {
                let mut got: serde_json::Value = serde_json::from_str(&p.to_string_pretty()).expect("own output");
                strip(&mut want);
                strip(&mut got);
                if want != got {
                    println!("{path}: differs");
                }
            }
        }
    }
}
fn strip(v: &mut serde_json::Value) {
    match v {
        serde_json::Value::Object(m) => {
            m.retain(|_, v| !v.is_null());
            m.values_mut().for_each(strip);
        }
        serde_json::Value::Array(a) => a.iter_mut().for_each(strip),
        _ => {}
    }
}
