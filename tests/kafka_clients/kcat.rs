//! kcat: produce, consume, metadata, offsets.

use corelane_tests::broker::Broker;
use corelane_tests::kcat::kcat;
use corelane_tests::librdkafka::{create_topic, unique};

fn run(arguments: &[&str], input: &str) -> String {
    kcat(Broker::shared().bootstrap(), arguments, input.as_bytes())
}

#[test]
fn kcat_reads_what_it_wrote() {
    let topic = unique("kcat");
    create_topic(Broker::shared(), &topic, 1, &[]);
    let lines: String = (0..500).map(|i| format!("k{}|line {i}\n", i % 3)).collect();
    for (round, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        run(&["-P", "-t", &topic, "-K", "|", "-z", codec, "-X", "acks=all", "-H", "source=kcat"], &lines);
        let out = run(&["-C", "-t", &topic, "-o", &(round * 500).to_string(), "-e", "-q", "-f", "%k|%s\n"], "");
        assert_eq!(out, lines, "{codec}");
    }
    let out = run(&["-C", "-t", &topic, "-o", "-1", "-c", "1", "-q", "-f", "%t %p %o %h %s\n"], "");
    assert_eq!(out, format!("{topic} 0 2499 source=kcat line 499\n"));
    let out = run(&["-G", &unique("kcat-group"), "-X", "auto.offset.reset=earliest", "-e", "-q", &topic], "");
    assert_eq!(out.lines().count(), 2500, "a consumer group reads all");
}

#[test]
fn kcat_lists_brokers_topics_and_offsets() {
    let topic = unique("kcat-list");
    create_topic(Broker::shared(), &topic, 3, &[]);
    let out = run(&["-L", "-J", "-t", &topic], "");
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(!json["brokers"].as_array().expect("brokers").is_empty());
    assert_eq!(json["topics"][0]["topic"], topic.as_str());
    assert_eq!(json["topics"][0]["partitions"].as_array().map(Vec::len), Some(3), "{out}");
    assert!(run(&["-L"], "").contains(&format!("topic \"{topic}\" with 3 partitions:")));
    run(&["-P", "-t", &topic, "-p", "1"], "a\nb\nc\n");
    let out = run(
        &["-Q", "-t", &format!("{topic}:1:-1"), "-t", &format!("{topic}:1:-2"), "-t", &format!("{topic}:0:-1")],
        "",
    );
    assert!(out.contains(&format!("{topic} [1] offset ")), "{out}");
    let out = run(&["-Q", "-t", &format!("{topic}:1:1000")], "");
    assert_eq!(out, format!("{topic} [1] offset 0\n"), "the first record after 1970");
}
