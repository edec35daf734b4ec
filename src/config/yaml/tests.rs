use super::*;

/// The tree as JSON-like text, with each scalar's kind.
fn show(node: &Node) -> String {
    match node.value() {
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let fields: Vec<_> = entries.iter().map(|entry| format!("{}:{}", entry.key, show(&entry.node))).collect();
            format!("{{{}}}", fields.join(","))
        }
        _ => match node.kind() {
            Kind::Null => "null".into(),
            Kind::Text => format!("{:?}", node.scalar().unwrap()),
            _ => node.scalar().unwrap().into(),
        },
    }
}

fn tree(text: &str) -> Result<String, String> {
    let sink = Sink::new("f");
    let node = read(text, &sink);
    match sink.finish() {
        Ok(_) => Ok(node.as_ref().map(show).unwrap_or_default()),
        Err(errors) => Err(errors.to_string()),
    }
}

#[test]
fn reads_yaml_and_json() {
    for (text, expected) in [
        ("a: 1\nb: [x, 'y', \"z\"]\n", r#"{a:1,b:["x","y","z"]}"#),
        ("{\"a\":1,\"b\":[true,null,-2.5e3]}", "{a:1,b:[true,null,-2.5e3]}"),
        ("{\n\t\"a\": {\n\t\t\"b\": \"c\"\n\t},\n\t\"d\": []\n}\n", r#"{a:{b:"c"},d:[]}"#),
        ("{\r\n  \"a\" : 1 ,\r\n  \"b\" :\r\n 2 }", "{a:1,b:2}"),
        (r#"{"a":"http:\/\/x\u00e9\ud83d\ude00\\ud83d\"\t"}"#, "{a:\"http://xé😀\\\\ud83d\\\"\\t\"}"),
        ("\u{feff}{\"a\":\"b\"}", r#"{a:"b"}"#),
        ("{\"a:b\":\"{c: d} # e\",\"#\":\"*x\"}", "{a:b:\"{c: d} # e\",#:\"*x\"}"),
        ("a: &x {b: 1}\nc: *x\n", "{a:{b:1},c:{b:1}}"),
        ("a: !!str 1\nb: !!int 2\n", r#"{a:"1",b:2}"#),
        ("a: yes\nb: on\nc: 010\nd: 1_000\n", r#"{a:"yes",b:"on",c:010,d:"1_000"}"#),
        ("a: |\n  x\n  y\n", r#"{a:"x\ny\n"}"#),
        ("---\na: 1\n...\n", "{a:1}"),
        ("", ""),
        ("# nothing\n", ""),
    ] {
        assert_eq!(tree(text).as_deref(), Ok(expected), "for {text:?}");
    }
}

#[test]
fn real_json_documents() {
    let long = "x".repeat(100_000);
    let value = serde_json::json!({"routes": [{"name": long, "paths": ["/a/*"], "n": 1.5, "t": true, "z": null}]});
    for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
        assert_eq!(tree(&text), Ok(format!(r#"{{routes:[{{n:1.5,name:"{long}",paths:["/a/*"],t:true,z:null}}]}}"#)));
    }
}

#[test]
fn refuses() {
    for (text, expected) in [
        ("a: 1\nb: 2\na: 3\n", "f:3: `a` stands here a second time; the first is in line 1"),
        ("{\"a\":1,\"a\":2}", "f:1: `a` stands here a second time; the first is in line 1"),
        ("a: 1\n---\nb: 2\n", "f:2: a second document begins here; only one is read"),
        ("a: &x [*x]\n", "f:1: an alias inside of what it stands for"),
        ("[a]: 1\n", "f:1: a field's name must be text"),
        ("? {a: 1}\n: 1\n", "f:1: a field's name must be text"),
        ("a: !secret b\n", "f:1: the tag `!secret` means nothing here"),
        ("a: !!int b\n", "f:1: the tag `tag:yaml.org,2002:!int` means nothing here"),
    ] {
        assert_eq!(tree(text), Err(expected.to_owned()), "for {text:?}");
    }
    for text in ["a: [1", "a: \"b", "a: b: c", "{\"a\":}x", "a: *nowhere"] {
        assert!(tree(text).is_err(), "for {text:?}");
    }
}

#[test]
fn many_duplicates_are_found() {
    let text: String = (0..100).map(|number| format!("k{}: 1\n", number % 99)).collect();
    assert_eq!(tree(&text), Err("f:100: `k0` stands here a second time; the first is in line 1".into()));
}

#[test]
fn depth_and_aliases_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(tree(&nested(64)).is_ok());
    assert_eq!(tree(&nested(65)), Err("f:1: more than 64 levels deep".into()));
    assert!(tree(&nested(100_000)).is_err());
    assert!(tree(&"[".repeat(1_000_000)).is_err());
    assert!(tree(&"- ".repeat(1_000_000)).is_err());

    // A billion laughs.
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let alias = format!("*a{},", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", alias.trim_end_matches(',')));
    }
    assert!(tree(&laughs).unwrap_err().contains("aliases stand for more than 1000000 values"));

    // A long chain would cost stack when it is dropped.
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..100 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(tree(&chain).unwrap_err().contains("more than 64 levels deep, aliases unfolded"));
}

#[test]
fn knows_lines_and_columns() {
    let sink = Sink::new("f");
    let root = read("a:\n  - b: x\n    c: [1,\n      2]\n", &sink).unwrap();
    let item = &root.entries()[0].node.items()[0];
    let field = &item.entries()[1];
    assert_eq!((field.place.line, field.place.column), (3, 5));
    let second = &field.node.items()[1];
    assert_eq!((second.place.line, second.place.column), (4, 7));
}

#[test]
fn the_number_of_values_is_bounded() {
    let sink = Sink::new("f");
    let mut builder = Builder {
        sink: &sink,
        stack: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        values: VALUES_MAX - 3,
        root: None,
        documents: 0,
    };
    let (place, message) = builder.run(&mut Parser::new_from_str("[a, b, c, d]")).unwrap_err();
    assert_eq!((place.column, &*message), (11, "more than 16000000 values"));
}
