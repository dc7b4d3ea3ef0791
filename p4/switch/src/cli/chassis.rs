//! Stratum's chassis configuration (`stratum.hal.ChassisConfig` in protobuf's text format), or the parts that a
//! software switch needs: the node's id, and the ports with their devices.

/// A configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chassis {
    /// P4Runtime's device id, of the first node.
    pub(super) node: Option<u64>,
    /// Numbers and devices of ports.
    pub(super) ports: Vec<(u32, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name, or a number.
    Word(String),
    Text(String),
    Open,
    Close,
}

/// Cuts the text into tokens. Colons, commas and semicolons carry no information beyond the order, so they are dropped.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            rest = match first {
                '#' => "",
                '{' | '<' | '}' | '>' => {
                    let is_open = matches!(first, '{' | '<');
                    found.push((number, if is_open { Token::Open } else { Token::Close }));
                    rest.get(1..).unwrap_or_default()
                }
                ':' | ',' | ';' => rest.get(1..).unwrap_or_default(),
                '"' | '\'' => {
                    let inside = rest.get(1..).unwrap_or_default();
                    let (text, after) = inside
                        .split_once(first)
                        .ok_or_else(|| format!("line {number}: the string does not end"))?;
                    found.push((number, Token::Text(text.to_owned())));
                    after
                }
                _ => {
                    let ends = |c: char| c.is_whitespace() || ":,;{}<>\"'#".contains(c);
                    let end = rest.find(ends).unwrap_or(rest.len());
                    let (word, after) = rest.split_at(end);
                    found.push((number, Token::Word(word.to_owned())));
                    after
                }
            }
            .trim_start();
        }
    }
    Ok(found)
}

/// Reads a configuration.
///
/// # Errors
/// Names the line and what is wrong with it.
pub(super) fn read(text: &str) -> Result<Chassis, String> {
    let mut chassis = Chassis::default();
    // The messages that are open, outermost first.
    let mut path: Vec<String> = Vec::new();
    let mut port = (None, None);
    let mut tokens = tokens(text)?.into_iter().peekable();
    while let Some((line, token)) = tokens.next() {
        match token {
            Token::Close => {
                let closed = path.pop().ok_or_else(|| format!("line {line}: nothing is open"))?;
                if path.is_empty() && closed == "singleton_ports" {
                    match std::mem::take(&mut port) {
                        (Some(id), Some(name)) => chassis.ports.push((id, name)),
                        _ => return Err(format!("line {line}: a port needs an id and the name of its device")),
                    }
                }
            }
            Token::Word(field) => match tokens.next() {
                Some((_, Token::Open)) => path.push(field),
                Some((line, Token::Word(value) | Token::Text(value))) => {
                    let number = || format!("line {line}: {field}: {value:?} is not a number");
                    match (path.as_slice(), field.as_str()) {
                        ([of], "id") if of == "nodes" && chassis.node.is_none() => {
                            chassis.node = Some(value.parse().map_err(|_| number())?);
                        }
                        ([of], "id") if of == "singleton_ports" => {
                            port.0 = Some(value.parse().map_err(|_| number())?);
                        }
                        ([of], "name") if of == "singleton_ports" => port.1 = Some(value),
                        _ => {}
                    }
                }
                _ => return Err(format!("line {line}: {field}: a value is expected")),
            },
            Token::Open | Token::Text(_) => return Err(format!("line {line}: the name of a field is expected")),
        }
    }
    match path.last() {
        Some(open) => Err(format!("{open} does not end")),
        None => Ok(chassis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_the_node_are_found() {
        let text = r#"
            description: "a switch { that says"  # a comment }
            chassis { platform: PLT_P4_SOFT_SWITCH name: "s1" }
            nodes { id: 7 name: "s1 node" slot: 1 index: 1 }
            singleton_ports {
              id: 1
              name: "s1-eth1"
              slot: 1 port: 1, channel: 1; speed_bps: 10000000000
              config_params < admin_state: ADMIN_STATE_ENABLED >
              node: 7
            }
            singleton_ports { name: 's1-eth2' id: 2 }
        "#;
        let want = Chassis {
            node: Some(7),
            ports: vec![(1, "s1-eth1".to_owned()), (2, "s1-eth2".to_owned())],
        };
        assert_eq!(read(text), Ok(want));
        assert_eq!(read(""), Ok(Chassis::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, words) in [
            ("a: 1\nb: \"x", "line 2"),
            ("nodes { id: x }", "is not a number"),
            ("singleton_ports {\n id: 1\n}", "line 3"),
            ("nodes {", "nodes does not end"),
            ("}", "nothing is open"),
            ("a: }", "a value is expected"),
            ("\"a\"", "the name of a field"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
