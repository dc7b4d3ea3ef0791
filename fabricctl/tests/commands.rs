//! The commands, on a real controller.

mod controller;

use controller::{Controller, ended};
use serde_json::Value;

/// The cells of a line.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

#[test]
fn objects_are_shown_in_every_form() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0");

    // Every word for a kind works, and only the named objects are shown.
    for kind in ["networks", "network", "net", "nets", "NETWORKS"] {
        let out = c.ok(&format!("get {kind} -n blue"));
        let rows: Vec<&str> = out.lines().skip(1).filter_map(|l| cells(l).first().copied()).collect();
        assert_eq!(
            rows.iter().filter(|r| ["db", "web"].contains(r)).count(),
            2,
            "{kind}: {out}"
        );
    }
    let one = c.ok("get network web -n blue");
    assert!(one.contains("10.0.0.0/24") && !one.contains("10.0.1.0/24"), "{one}");
    assert_eq!(c.ok("get sw leaf1 -o name"), "leaf1\n");
    assert_eq!(c.ok("get hosts host2 host1 -o name"), "host1\nhost2\n");
    assert_eq!(c.ok("get links spine1:1 -o name"), "leaf1:1\n");

    // The output with `-o name` can be used in other commands.
    assert_eq!(c.ok("get nets -n blue -o name"), "blue/db\nblue/web\n");
    let all = c.ok("get nets -A -o name");
    assert_eq!(all, "blue/db\nblue/web\nred/db\nred/web\n");
    let described = c.ok(&format!("describe network {}", all.lines().last().unwrap()));
    assert!(described.contains("vdc: red"), "{described}");

    // A table of several vDCs names them; a wide one has more columns.
    let headings = |words: &str| c.ok(words).lines().next().unwrap().to_owned();
    assert!(headings("get nets -A").trim_start().starts_with("VDC"));
    let (plain, wide) = (headings("get nets -n blue"), headings("get nets -n blue -o wide"));
    assert!(
        !plain.contains("MTU") && wide.contains("MTU") && wide.contains("REVISION"),
        "{wide}"
    );

    // JSON and YAML: one object if one name is given, otherwise a list.
    let json = |words: &str| serde_json::from_str::<Value>(&c.ok(words)).unwrap();
    assert_eq!(json("get network web -n blue -o json")["vdc"], "blue");
    assert_eq!(json("get network web -n blue -o json")["spec"]["name"], "web");
    assert_eq!(json("get networks -n blue -o json").as_array().unwrap().len(), 2);
    assert_eq!(json("get switch leaf1 -o json")["name"], "leaf1");
    assert!(c.ok("get vdc red -o yaml").contains("name: red"));

    // An error is shown once, with advice.
    assert!(c.fails("get switches leaf9").contains("switch `leaf9` does not exist"));
    assert!(
        c.fails("get network web9 -n blue")
            .contains("network `web9` of vdc `blue` does not exist")
    );
    assert!(c.fails("get networks").contains("give -n VDC"));
    assert!(c.fails("get drops leaf9").contains("device `leaf9` does not exist"));
    assert!(c.ok("get drops leaf1").contains("missing: leaf1") && !c.ok("get drops leaf1").contains("leaf2"));
    assert!(c.fails("get entities").contains("no device is named"));
    assert!(c.fails("get pods").contains("attachments"));

    // No switch has a session, so nobody knows that a link is up.
    let status = c.ok("status");
    let links = status.lines().find(|l| l.contains("links up")).unwrap();
    assert!(links.contains("0 of 4"), "{status}");
    assert!(status.contains("there is no session with leaf1 and spine1"), "{status}");
}

#[test]
fn an_object_is_described_with_who_asked_for_what() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0 --reason first");
    let web1 = c.ok("describe attachment web1 -n blue");
    for part in [
        "kind: attachment",
        "vdc: blue",
        "network: web",
        "because: first",
        "progress: pending",
    ] {
        assert!(web1.contains(part), "{part}: {web1}");
    }
    // The attachment's entries on its leaf, and its objects on its host.
    let entities = web1.split("entities:").nth(1).unwrap();
    assert!(entities.contains("leaf1") && entities.contains("host1"), "{web1}");
    assert!(!entities.contains("attachment `web2`"), "{web1}");
    assert!(
        entities.contains("arp_reply [bd ") && entities.contains("not applied yet"),
        "{web1}"
    );
    assert!(entities.lines().all(|line| line == line.trim_end()), "{web1}");
    let leaf = c.ok("describe switch leaf1");
    assert!(
        leaf.contains("state: disconnected") && leaf.contains("tables:") && leaf.contains("missing: "),
        "{leaf}"
    );
    assert!(c.ok("describe link leaf1:1").contains("spine1"));
    assert!(c.fails("describe host host9").contains("host `host9` does not exist"));

    let top = c.ok("top --interval 100ms");
    let row = top.lines().find(|l| l.contains("leaf1")).unwrap();
    assert!(row.contains("disconnected") && top.contains("WRITES/S"), "{top}");
    let leaf = c.ok("top leaf1");
    let mac = leaf.lines().find(|l| l.contains("bridge_mac")).unwrap();
    assert!(leaf.contains("FREE") && mac.contains("131072"), "{leaf}");
    assert!(!c.ok("top host1").contains("131072") && top.contains("FULLEST TABLE"));
    assert!(c.fails("top --interval 1ms").contains("at least 100ms"));
}

#[test]
fn what_happened_is_shown_of_one_vdc_or_of_all() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0 --reason first");
    let full = "vdcs: [{ name: tight, limits: { networks: 0 }, networks: [{ name: one }] }]";
    let (code, _, err) = c.feed("apply -f - --wait 0", full);
    assert!(code == 1 && err.contains("may have 0 networks"), "{err}");
    let events = c.ok("events");
    assert!(
        events.contains("exhausted") && events.contains("may have 0 networks"),
        "{events}"
    );
    assert!(c.ok("events --warnings -o json").contains("\"reason\": \"exhausted\""));
    assert!(!c.ok("events -n blue").contains("exhausted"));

    c.ok("delete attachment web1 -n red --wait 0");
    let of_red = c.ok("history -n red");
    assert!(
        of_red.contains("-attachment `web1`") && of_red.contains("first"),
        "{of_red}"
    );
    let of_blue = c.ok("history -n blue");
    assert!(of_blue.contains("first") && !of_blue.contains("web1"), "{of_blue}");
    // The history shows the vDC of the context, unless all are requested.
    let in_context = |words: &str| {
        let mut command = c.command();
        let (code, out, err) = ended(&command.args(words.split_whitespace()).output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""), "{words}: {out}");
        out
    };
    in_context(&format!(
        "context set here --server {} --ca ca.pem --token-file token --default-vdc blue",
        c.server
    ));
    in_context("context use here");
    assert!(!in_context("history").contains("-attachment `web1`"));
    assert!(in_context("history -A").contains("-attachment `web1`"));
    assert!(!in_context("audit").contains("/v1/vdcs/red/"));
    assert!(in_context("audit -A").contains("/v1/vdcs/red/"));

    let said = c.ok("backup copy");
    assert!(
        said.contains("copy: revision ") && !c.path("copy.part").exists(),
        "{said}"
    );
    assert!(c.fails("backup copy").contains("copy exists already"));
}

#[test]
fn what_a_vdc_loses_is_drained_when_that_is_asked_for() {
    let c = Controller::start("info");
    let file = |hosts: &str| {
        format!(
            "vdcs: [{{ name: v, hosts: [{hosts}], networks: [{{ name: n, subnets: [{{ cidr: 10.0.0.0/24 }}] }}] }}]"
        )
    };
    let place = "{ host: { host: host1, netns: a, interface: eth0 } }";
    let attachments = format!("}}] }}], attachments: [{{ name: a, network: n, place: {place} }}] }}]");
    let with = file("host1").replace("}] }] }]", &attachments);
    let (code, _, err) = c.feed("apply -f - --wait 0", &with);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = c.feed("apply -f - --wait 0", &file(""));
    assert!(code == 1 && err.contains("attachment `a` of vdc `v`"), "{err}");
    let (code, out, err) = c.feed("plan -f - --cascade", &file(""));
    assert!(code == 0 && out.contains("- attachment `a` of vdc `v`"), "{out}{err}");
    let (code, out, err) = c.feed("apply -f - --cascade --wait 0", &file(""));
    assert!(code == 0 && out.contains("- attachment `a` of vdc `v`"), "{out}{err}");
}

#[test]
fn what_is_exported_is_taken_back_unchanged_and_differences_are_named_by_field() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0");
    let (code, out, err) = c.feed("apply -f - --prune --wait 0", &c.ok("export"));
    assert!(code == 0 && out.starts_with("22 unchanged, revision"), "{out}{err}");
    // Export one vDC and apply it elsewhere: it has everything that users wrote, and no number that the controller
    // chose.
    let blue = c.ok("export blue");
    assert!(
        blue.contains("web-metal") && !blue.contains("red") && !blue.contains("vni"),
        "{blue}"
    );
    assert!(c.fails("export green").contains("`green` does not exist"));

    let same = c.feed("diff -f -", &c.ok("export"));
    assert_eq!((same.0, same.1.as_str()), (0, "no difference\n"), "{}", same.2);
    let changed = blue
        .replace("The blue tenant", "Another")
        .replace("mtu: 1500", "mtu: 1400");
    let (code, out, _) = c.feed("diff -f -", &changed);
    assert_eq!(code, 1);
    assert!(
        out.contains("~ vdc `blue`") && out.contains("    description: The blue tenant -> Another"),
        "{out}"
    );
    assert!(out.contains("    mtu: 1500 -> 1400"), "{out}");
    // Nothing was done yet. Then it is applied, and the difference of the revisions has the same text.
    assert_eq!(c.feed("apply -f - --wait 0", &changed).0, 0);
    let revisions = c.ok("history -o json");
    let last = serde_json::from_str::<Value>(&revisions).unwrap()["items"][0]["revision"]
        .as_u64()
        .unwrap();
    let diff = c.ok(&format!("diff {} {last}", last - 1));
    assert!(diff.contains("    mtu: 1500 -> 1400"), "{diff}");
    // A pruned vDC is a difference only where pruning is asked for.
    let less = "vdcs: [{ name: red }]";
    assert_eq!(c.feed("diff -f - --prune", less).1.matches("- ").count(), 10);
}

#[test]
fn objects_are_deleted_by_name_and_by_file() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0");
    let used = c.fails("delete network web -n blue");
    assert!(
        used.contains("is still used by attachment") && used.matches("network `web`").count() == 1,
        "{used}"
    );
    assert!(
        c.ok("delete att web1 blue/web2 -n blue --wait 0")
            .matches("- attachment")
            .count()
            == 2
    );
    assert!(c.fails("delete att web1 -n blue").contains("does not exist"));
    assert!(
        c.ok("delete att web1 -n blue --ignore-not-found")
            .contains("does not exist")
    );
    assert!(c.fails("delete network").contains("no network is named"));
    // With `--ignore-not-found`, objects that are gone already are not an error; the rest is deleted in the right order.
    let (code, out, err) = c.run("delete -f intent.yaml --wait 0");
    assert!(
        code == 1 && err.contains("2 of 22 objects were not deleted"),
        "{out}{err}"
    );
    assert_eq!(c.ok("get vdcs -o name"), "");
    assert_eq!(
        c.ok("delete -f intent.yaml --ignore-not-found")
            .matches("does not exist")
            .count(),
        22
    );
}

#[test]
fn an_error_in_a_file_is_one_line_with_its_place() {
    let c = Controller::start("info");
    let (code, _, err) = c.feed(
        "apply -f -",
        "vdcs:\n- name: blue\n  networks:\n  - name: web\n    subnet: 10.0.0.0/24\n",
    );
    assert_eq!(code, 1);
    assert!(
        err.starts_with(
            "fabricctl: in -: line 5, column 5: vdcs[0].networks[0].subnet: unknown field `subnet`, expected one of"
        ),
        "{err}"
    );
    assert_eq!(
        (err.lines().count(), err.matches("unknown field").count()),
        (1, 1),
        "{err}"
    );
    let (_, _, err) = c.feed("inventory import -f -", "fabric: { name: x }\nswitches: 7\n");
    assert!(err.contains("line 2, column 11"), "{err}");
    assert_eq!((err.lines().count(), err.matches("line 2").count()), (1, 1), "{err}");
}

#[test]
fn contexts_choose_controller_vdc_and_proof() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0");
    let run = |words: &str, variables: &[(&str, &str)]| {
        let mut command = c.command();
        command.args(words.split_whitespace()).envs(variables.iter().copied());
        ended(&command.output().unwrap())
    };
    let ok = |words: &str| {
        let (code, out, err) = run(words, &[]);
        assert_eq!((code, err.as_str()), (0, ""), "{words}");
        out
    };
    // No controller is named: the error says how to name one.
    assert!(run("status", &[]).2.contains("fabricctl context set NAME --server"));
    let error = run(&format!("context set lab --server {}", c.server), &[]).2;
    assert!(error.contains("ca: missing"), "{error}");
    ok(&format!(
        "context set lab --server {} --ca ca.pem --token-file token --default-vdc blue",
        c.server
    ));
    assert_eq!(ok("get nets -o name"), "blue/db\nblue/web\n");
    assert_eq!(ok("get nets -n red -o name"), "red/db\nred/web\n");

    // A user with a client certificate, in a context of its own.
    ok("user set operator --role vdc-viewer=red");
    let issued = c.authority.issue("user/operator");
    std::fs::write(c.path("user.pem"), &issued.cert).unwrap();
    std::fs::write(c.path("user.key"), &issued.key).unwrap();
    ok(&format!(
        "context set red --server {} --ca ca.pem --client-cert user.pem --client-key user.key --default-vdc red",
        c.server
    ));
    assert!(ok("--context red whoami").contains("vdc-viewer=red"));
    let list = ok("context list");
    let current = list.lines().find(|l| l.contains('*')).unwrap();
    assert!(current.contains("lab") && list.contains("certificate "), "{list}");
    ok("context use red");
    assert_eq!(ok("get vdcs -o name"), "red\n");

    // A flag wins over the environment, the environment over the context.
    assert_eq!(run("get vdcs -o name", &[("VFABRIC_CONTEXT", "lab")]).1, "blue\nred\n");
    assert_eq!(
        run(
            "get nets -o name",
            &[("VFABRIC_CONTEXT", "lab"), ("VFABRIC_VDC", "red")]
        )
        .1,
        "red/db\nred/web\n"
    );
    assert_eq!(
        run("--context red get vdcs -o name", &[("VFABRIC_CONTEXT", "lab")]).1,
        "red\n"
    );
    let token = c.path("token").display().to_string();
    assert_eq!(
        run("get vdcs -o name", &[("VFABRIC_TOKEN_FILE", &token)]).1,
        "blue\nred\n"
    );
    let words = "get vdcs -o name --client-cert user.pem --client-key user.key";
    assert_eq!(run(words, &[("VFABRIC_CONTEXT", "lab")]).1, "red\n");
    assert!(run("status", &[("VFABRIC_TOKEN", "wrong"), ("VFABRIC_CONTEXT", "lab")]).0 != 0);
    assert!(run("--context prod status", &[]).2.contains("expected one of lab, red"));

    // The command does not ask for what a tenant may not see: the audit log has no refused call.
    assert!(ok("describe network web").contains("only users with a role of the fabric"));
    let refused = run("audit -o json", &[("VFABRIC_CONTEXT", "lab")]).1;
    let refused: Value = serde_json::from_str(&refused).unwrap();
    assert!(
        refused
            .as_array()
            .unwrap()
            .iter()
            .all(|call| !call["caller"].as_str().unwrap_or_default().contains("operator"))
    );

    ok("context delete red");
    assert!(run("context use red", &[]).2.contains("`red` does not exist"));
    // Nobody else reads the file, and no secret is in it.
    use std::os::unix::fs::PermissionsExt as _;
    let path = c.path(".config/fabricctl/config.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&token).unwrap();
    let secret = secret.lines().rfind(|l| !l.starts_with('#')).unwrap();
    assert!(!std::fs::read_to_string(&path).unwrap().contains(secret));
}

#[test]
fn a_shell_completes_words_and_names_of_the_controller() {
    let c = Controller::start("info");
    c.ok("apply -f intent.yaml --wait 0");
    for (shell, says) in [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")] {
        let script = c.ok(&format!("completion {shell}"));
        assert!(
            script.contains(says) && script.contains("fabricctl"),
            "{shell}: {script}"
        );
    }
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = c.command();
        command
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string());
        command
            .env("_CLAP_IFS", "\n")
            .env("VFABRIC_CONFIG", c.path("client.yaml"));
        let (code, out, err) = ended(&command.args(["--", "fabricctl"]).args(&words).output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("descr"), ["describe"]);
    assert_eq!(complete("get net"), ["networks"]);
    assert_eq!(complete("get nets -n bl"), ["blue"]);
    assert_eq!(
        complete("get attachments -n blue web"),
        ["web-metal", "web1", "web2", "web3"]
    );
    assert_eq!(complete("get switch lea"), ["leaf1", "leaf2"]);
    assert_eq!(complete("delete router -n red c"), ["core"]);
    assert!(complete("get attachments -n green web").is_empty());
}

#[test]
fn a_log_file_is_plain_and_names_an_absent_device_once() {
    // A second attempt was made on every device; at level `info`, the log does not show it.
    let c = Controller::start("info,fabric_controller::device=debug");
    let mut again = std::collections::BTreeSet::new();
    let device = |line: &str| {
        line.split("name=")
            .nth(1)
            .map(|rest| rest.split('}').next().unwrap().to_owned())
    };
    let log = c.log_until(|line| {
        if line.contains("still away") {
            again.extend(device(line));
        }
        again.len() == 4
    });
    let log = [c.begin.clone(), log].concat();
    assert!(log.iter().all(|line| !line.contains('\x1b')), "{log:#?}");
    for switch in &again {
        let warnings = log
            .iter()
            .filter(|l| l.contains("WARN") && device(l).as_ref() == Some(switch));
        assert_eq!(warnings.count(), 1, "{switch}: {log:#?}");
    }
}
