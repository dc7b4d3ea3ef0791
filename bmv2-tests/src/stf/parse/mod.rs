//! From text to a [`Script`].

mod words;

use words::{Words, shown};

use super::command::{Action, Cell, Command, CountType, Script, Statement};
use super::lex::{Token, without_comment, words as split};
use super::pattern::Pattern;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct ParseError {
    /// The script's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Script {
    /// Reads a script; `file` is its name in messages.
    ///
    /// # Errors
    /// The first line that is not a statement.
    pub fn parse(file: &str, text: &str) -> Result<Self, ParseError> {
        let mut statements = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_number = at + 1;
            let line = without_comment(line).trim();
            if line.is_empty() {
                continue;
            }
            let command = statement(line).map_err(|what| ParseError {
                file: file.to_owned(),
                line: line_number,
                what,
            })?;
            statements.push(Statement {
                line: line_number,
                command,
            });
        }
        Ok(Self {
            file: file.to_owned(),
            statements,
        })
    }
}

type Parse<T> = Result<T, String>;

/// One line.
fn statement(line: &str) -> Parse<Command> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let word = word.to_ascii_lowercase();
    // Frames are digits, not words.
    match word.as_str() {
        "packet" => return packet(rest),
        "expect" => return expect(rest),
        _ => {}
    }
    let tokens = split(rest)?;
    let mut p = Words { tokens: &tokens };
    let command = p.command(&word)?;
    match p.tokens.first() {
        None => Ok(command),
        Some(token) => Err(format!("{} does not belong here", shown(token))),
    }
}

/// Port and digits.
fn port_and_digits(rest: &str) -> Parse<(u32, &str)> {
    let rest = rest.trim();
    let (port, digits) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let number = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
    Ok((number, digits.trim()))
}

fn packet(rest: &str) -> Parse<Command> {
    let (port, digits) = port_and_digits(rest)?;
    let mut nibbles = Vec::new();
    for c in digits.chars().filter(|c| !c.is_whitespace()) {
        nibbles.push(
            c.to_digit(16)
                .ok_or_else(|| format!("`{c}` is not a hexadecimal digit"))? as u8,
        );
    }
    if nibbles.len() % 2 == 1 {
        return Err("the frame ends with half an octet".into());
    }
    let data = nibbles
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |b, n| b << 4 | n))
        .collect();
    Ok(Command::Packet { port, data })
}

fn expect(rest: &str) -> Parse<Command> {
    let (port, digits) = port_and_digits(rest)?;
    let pattern = match digits {
        "" => None,
        digits => Some(Pattern::parse(digits).map_err(|c| format!("`{c}` is not a digit of an expected frame"))?),
    };
    Ok(Command::Expect { port, pattern })
}

impl Words<'_> {
    fn add(&mut self) -> Parse<Command> {
        let table = self.qualified()?;
        let priority = match self.tokens.first() {
            Some(Token::Number(..)) => Some(self.integer()?),
            _ => None,
        };
        let mut key = Vec::new();
        let action = loop {
            let name = self.qualified()?;
            if self.has(":") {
                key.push((name, self.key_value()?));
                continue;
            }
            let indirect = matches!(self.tokens, [Token::Mark("("), Token::Number(..), ..]);
            break match name.as_str() {
                "member" | "group" if indirect => {
                    self.mark("(")?;
                    let id = self.integer()?;
                    self.mark(")")?;
                    if name == "member" {
                        Action::Member(id)
                    } else {
                        Action::Group(id)
                    }
                }
                _ => Action::Call(self.arguments(name)?),
            };
        };
        let alias = if self.has("=") { Some(self.alias()?) } else { None };
        Ok(Command::Add {
            table,
            priority,
            key,
            action,
            alias,
        })
    }

    fn check_counter(&mut self) -> Parse<Command> {
        let counter = self.qualified()?;
        self.mark("(")?;
        let cell = match self.tokens.first() {
            Some(Token::Name(_)) => Cell::Alias(self.alias()?),
            _ => Cell::Index(self.integer()?),
        };
        self.mark(")")?;
        if self.tokens.is_empty() {
            return Ok(Command::CheckCounter {
                counter,
                cell,
                check: None,
            });
        }
        let count = match self.name()?.to_ascii_lowercase().as_str() {
            "bytes" => CountType::Bytes,
            "packets" => CountType::Packets,
            other => return Err(format!("`bytes` or `packets` is expected, not `{other}`")),
        };
        let check = Some((count, self.compare()?, self.integer()?));
        Ok(Command::CheckCounter { counter, cell, check })
    }

    fn meter_set_rates(&mut self) -> Parse<Command> {
        let meter = self.qualified()?;
        Ok(match meter.strip_prefix('$') {
            Some(alias) => Command::DirectMeterSetRates {
                alias: alias.to_owned(),
                rates: self.rates()?,
            },
            None => Command::MeterSetRates {
                meter,
                cell: Some(self.integer()?),
                rates: self.rates()?,
            },
        })
    }

    fn group(&mut self) -> Parse<Command> {
        let (profile, id) = (self.qualified()?, self.integer()?);
        let mut members = Vec::new();
        while !self.tokens.is_empty() {
            let member = self.integer()?;
            let watch = if self.has("@") { Some(self.integer()?) } else { None };
            members.push((member, watch));
        }
        Ok(Command::Group { profile, id, members })
    }

    fn command(&mut self, word: &str) -> Parse<Command> {
        Ok(match word {
            "add" => self.add()?,
            "remove" => match self.name()?.as_str() {
                name if name.eq_ignore_ascii_case("all") => Command::RemoveAll,
                name => Command::Remove(name.strip_prefix('$').unwrap_or(name).to_owned()),
            },
            "setdefault" => Command::SetDefault {
                table: self.qualified()?,
                call: self.call()?,
            },
            "no_packet" => Command::NoPacket,
            "wait" => Command::Wait {
                ms: if self.tokens.is_empty() { 1000 } else { self.integer()? },
            },
            "mirroring_add" => Command::MirroringAdd {
                session: self.integer()?,
                port: self.integer()?,
            },
            "mirroring_add_mc" => Command::MirroringAddMulticast {
                session: self.integer()?,
                group: self.integer()?,
            },
            "mirroring_delete" => Command::MirroringDelete {
                session: self.integer()?,
            },
            "mc_mgrp_create" => Command::GroupCreate { group: self.integer()? },
            "mc_node_create" => Command::NodeCreate {
                rid: self.integer()?,
                ports: self.integers()?,
            },
            "mc_node_update" => Command::NodeUpdate {
                node: self.integer()?,
                ports: self.integers()?,
            },
            "mc_node_associate" => Command::NodeAssociate {
                group: self.integer()?,
                node: self.integer()?,
            },
            "check_counter" => self.check_counter()?,
            "counter_write" => Command::CounterWrite {
                counter: self.qualified()?,
                cell: self.integer()?,
                bytes: self.integer()?,
                packets: self.integer()?,
            },
            "register_write" => Command::RegisterWrite {
                register: self.qualified()?,
                cell: self.integer()?,
                value: self.digits()?,
            },
            "register_reset" => Command::RegisterReset {
                register: self.qualified()?,
            },
            "check_register" => {
                let register = self.qualified()?;
                self.mark("(")?;
                let cell = self.integer()?;
                self.mark(")")?;
                Command::CheckRegister {
                    register,
                    cell,
                    compare: self.compare()?,
                    value: self.digits()?,
                }
            }
            "meter_set_rates" => self.meter_set_rates()?,
            "meter_array_set_rates" => Command::MeterSetRates {
                meter: self.qualified()?,
                cell: None,
                rates: self.rates()?,
            },
            "act_prof_member" => Command::Member {
                profile: self.qualified()?,
                id: self.integer()?,
                call: self.call()?,
            },
            "act_prof_group" => self.group()?,
            "pvs_add" => Command::ValueSetAdd {
                set: self.qualified()?,
                values: self.numbers()?,
            },
            "expect_digest" => Command::ExpectDigest {
                digest: self.qualified()?,
                fields: self.numbers()?,
            },
            "port_down" | "port_up" => Command::PortState {
                port: self.integer()?,
                up: word == "port_up",
            },
            "check_idle" => Command::CheckIdle {
                alias: self.alias()?,
                compare: self.compare()?,
                ms: self.integer()?,
            },
            "mirroring_get" | "counter_read" | "register_read" | "meter_get_rates" => {
                self.tokens = &[];
                Command::Print
            }
            other => return Err(format!("`{other}` is not a statement")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{KeyValue, Rate};
    use super::*;

    fn one(line: &str) -> Result<Command, String> {
        let script = Script::parse("t.stf", line).map_err(|e| e.to_string())?;
        Ok(script.statements.into_iter().next().unwrap().command)
    }

    #[test]
    fn entries() {
        let Command::Add {
            table,
            priority,
            key,
            action,
            alias,
        } = one("ADD c.t 10 h.f:0x0a** st$0.g[1].x:3/5 r:1->2 t:1&&&3 c.a(p:1, q:0b10) = E # entry").unwrap()
        else {
            panic!("no entry");
        };
        assert_eq!(
            (table.as_str(), priority, alias.as_deref()),
            ("c.t", Some(10), Some("E"))
        );
        let names: Vec<&str> = key.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["h.f", "st$0.g[1].x", "r", "t"]);
        assert!(matches!(&key.get(1).unwrap().1, KeyValue::Prefix(_, 5)));
        let Action::Call(call) = action else {
            panic!("no action")
        };
        assert_eq!((call.action.as_str(), call.args.len()), ("c.a", 2));
        assert!(matches!(
            one("add t member(3)"),
            Ok(Command::Add {
                action: Action::Member(3),
                ..
            })
        ));
    }

    #[test]
    fn frames() {
        assert_eq!(
            one("packet 3 00 0aFF"),
            Ok(Command::Packet {
                port: 3,
                data: vec![0, 10, 255]
            })
        );
        assert_eq!(one("expect 3"), Ok(Command::Expect { port: 3, pattern: None }));
        assert!(matches!(
            one("expect 3 ** 0a $"),
            Ok(Command::Expect {
                port: 3,
                pattern: Some(_)
            })
        ));
    }

    #[test]
    fn rates_are_read_a_microsecond() {
        let rate = |millionths, burst| Rate { millionths, burst };
        assert_eq!(
            one("meter_set_rates c.m 2 0.0000005:4 2:5"),
            Ok(Command::MeterSetRates {
                meter: "c.m".into(),
                cell: Some(2),
                rates: vec![rate(500_000, 4), rate(2_000_000_000_000, 5)]
            })
        );
    }

    #[test]
    fn errors_name_file_line_and_word() {
        let error = |text: &str| Script::parse("x.stf", text).unwrap_err().to_string();
        assert_eq!(
            error("\n# fine\npacket 1 0"),
            "x.stf:3: the frame ends with half an octet"
        );
        assert_eq!(error("packet a 00"), "x.stf:1: `a` is not a port");
        assert_eq!(error("frobnicate 1"), "x.stf:1: `frobnicate` is not a statement");
        assert_eq!(error("add t k:1 a(x 1)"), "x.stf:1: `:` is expected, not `1`");
        assert_eq!(error("wait 1 2"), "x.stf:1: `2` does not belong here");
        assert_eq!(error("expect 1 0g"), "x.stf:1: `g` is not a digit of an expected frame");
        assert_eq!(error("mirroring_add 5"), "x.stf:1: a number is missing");
    }
}
