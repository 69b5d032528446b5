//! kafka-consumer-groups, kafka-groups and kafka-streams-application-reset.

use crate::both::{Side, on_both};
use crate::topics::{create, produce};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const ALL_GROUPS: &str = "org.apache.kafka.tools.GroupsCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const STREAMS_RESET: &str = "org.apache.kafka.tools.StreamsResetter";

fn consume(side: &Side, topic: &str, group: &str, records: &str) {
    let arguments = ["--topic", topic, "--group", group, "--from-beginning", "--max-messages", records];
    side.unseen(CONSUMER, &[&arguments[..], &["--timeout-ms", "30000"]].concat(), "").ok();
}

/// The lines that name the group, of a list of all there are.
fn of_group(text: &str, group: &str) -> String {
    text.lines().filter(|line| line.contains(group)).collect::<Vec<_>>().join("\n")
}

#[test]
fn kafka_consumer_groups() {
    on_both(|side| {
        create(side, "grouped", "1");
        produce(side, "grouped", &"record\n".repeat(50));
        consume(side, "grouped", "tools-group", "50");
        let one = |arguments: &[&str]| side.tool(GROUPS, &[&["--group", "tools-group"], arguments].concat());
        side.note(&of_group(&side.unseen(GROUPS, &["--list"], "").ok(), "tools-group"));
        side.note(&of_group(&side.unseen(GROUPS, &["--list", "--state"], "").ok(), "tools-group"));
        side.note(&of_group(&side.unseen(GROUPS, &["--list", "--type"], "").ok(), "tools-group"));
        side.note(&of_group(&side.unseen(ALL_GROUPS, &["--list"], "").ok(), "tools-group"));
        side.note(&of_group(&side.unseen(ALL_GROUPS, &["--list", "--consumer"], "").ok(), "tools-group"));
        side.note(&of_group(&side.unseen(ALL_GROUPS, &["--list", "--group-type", "share"], "").ok(), "tools-group"));
        for what in ["--offsets", "--members", "--state"] {
            one(&["--describe", what]).ok();
        }
        one(&["--describe", "--members", "--verbose"]).ok();
        let reset = |how: &[&str]| {
            one(&[&["--reset-offsets", "--topic", "grouped"], how].concat()).ok();
        };
        reset(&["--to-earliest", "--dry-run"]);
        reset(&["--to-offset", "7", "--execute"]);
        one(&["--describe", "--offsets"]).ok();
        reset(&["--shift-by", "-3", "--execute"]);
        reset(&["--shift-by", "1000", "--execute"]);
        reset(&["--to-datetime", "2020-01-01T00:00:00.000", "--execute"]);
        reset(&["--by-duration", "PT1H", "--execute"]);
        reset(&["--to-current", "--execute"]);
        reset(&["--to-latest", "--execute", "--export"]);
        let file = side.file("offsets.csv", "\"grouped\",0,12\n");
        one(&["--reset-offsets", "--from-file", &file, "--execute"]).ok();
        one(&["--reset-offsets", "--all-topics", "--to-earliest", "--execute"]).ok();
        one(&["--describe", "--offsets"]).ok();
        side.tool(
            GROUPS,
            &["--group", "tools-new", "--reset-offsets", "--topic", "grouped:0", "--to-offset", "3", "--execute"],
        )
        .ok();
        one(&["--delete-offsets", "--topic", "grouped"]).ok();
        one(&["--delete-offsets", "--topic", "grouped-none"]);
        one(&["--describe", "--offsets"]);
        one(&["--delete"]).ok();
        one(&["--delete"]);
        one(&["--describe"]);
        side.tool(GROUPS, &["--group", "tools-new", "--delete"]).ok();
        side.note(&of_group(&side.unseen(GROUPS, &["--list"], "").ok(), "tools-"));
    });
}

#[test]
fn kafka_streams_application_reset() {
    on_both(|side| {
        create(side, "streamed", "1");
        create(side, "streams-app-count-changelog", "1");
        create(side, "streams-app-by-key-repartition", "1");
        produce(side, "streamed", &"record\n".repeat(20));
        consume(side, "streamed", "streams-app", "20");
        let reset = |more: &[&str]| {
            side.tool(
                STREAMS_RESET,
                &[&["--application-id", "streams-app", "--input-topics", "streamed"], more].concat(),
            )
        };
        reset(&["--to-offset", "4", "--dry-run"]).ok();
        reset(&["--to-offset", "4"]).ok();
        side.tool(GROUPS, &["--group", "streams-app", "--describe", "--offsets"]).ok();
        side.tool("org.apache.kafka.tools.TopicCommand", &["--list", "--topic", "streams-app.*"]).ok();
        side.tool(GROUPS, &["--group", "streams-app", "--delete"]).ok();
    });
}
