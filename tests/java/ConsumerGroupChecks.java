import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;

/** Java's consumer in groups of KIP-848, and what an administrator sees of them. main: BOOTSTRAP CHECK.. */
public class ConsumerGroupChecks {
    public static void main(String[] args) throws Exception {
        Check.run(ConsumerGroupChecks.class, args);
    }

    private static KafkaConsumer<byte[], byte[]> member(String bootstrap, String group, Object... more) {
        Map<String, Object> settings = new LinkedHashMap<>(Map.of("group.id", group, "group.protocol", "consumer", "max.poll.records", 50));
        for (int i = 0; i < more.length; i += 2)
            settings.put((String) more[i], more[i + 1]);
        List<Object> flat = new ArrayList<>();
        settings.forEach((name, value) -> flat.addAll(List.of(name, value)));
        return Check.consumer(bootstrap, flat.toArray());
    }

    private static Set<String> read(KafkaConsumer<byte[], byte[]> consumer) {
        Set<String> seen = new HashSet<>();
        consumer.poll(Duration.ofMillis(50)).forEach(r -> seen.add(r.topic() + "/" + r.partition() + "/" + r.offset()));
        return seen;
    }

    private static void fill(String bootstrap, String topic, int records) throws Exception {
        try (var producer = Check.producer(bootstrap)) {
            for (int i = 0; i < records; i++)
                producer.send(new ProducerRecord<>(topic, ("key-" + i).getBytes(UTF_8), ("" + i).getBytes(UTF_8)));
            producer.flush();
        }
    }

    private static ConsumerGroupDescription describe(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get(30, TimeUnit.SECONDS);
    }

    static void members_share_commit_and_take_over(String bootstrap) throws Exception {
        String topic = Check.unique("java-848"), group = Check.unique("group-848");
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 6);
            fill(bootstrap, topic, 600);
            Set<String> seen = new HashSet<>();
            try (var a = member(bootstrap, group); var b = member(bootstrap, group, "group.remote.assignor", "range")) {
                a.subscribe(List.of(topic));
                Check.until("all six at the first member", () -> {
                    seen.addAll(read(a));
                    return a.assignment().size() == 6;
                });
                b.subscribe(List.of(topic));
                Check.until("three each", () -> {
                    seen.addAll(read(a));
                    seen.addAll(read(b));
                    return a.assignment().size() == 3 && b.assignment().size() == 3;
                });
                // What the first member had read of the second one's partitions was not committed: the second one reads it again.
                Check.until("all records, by those who own their partitions now", () -> {
                    seen.addAll(read(a));
                    seen.addAll(read(b));
                    return seen.size() == 600 && ClientChecks.atEnd(a) && ClientChecks.atEnd(b);
                });
                Check.until("a stable group", () -> {
                    read(a);
                    read(b);
                    return describe(admin, group).groupState() == GroupState.STABLE;
                });
                ConsumerGroupDescription described = describe(admin, group);
                Check.equal(GroupType.CONSUMER, described.type(), "the group's type");
                Check.equal(2, described.members().size(), "members");
                for (MemberDescription member : described.members()) {
                    Check.equal(3, member.assignment().topicPartitions().size(), "partitions of a member");
                    Check.equal(member.assignment(), member.targetAssignment().get(), "the target");
                }
                a.commitSync();
                b.commitSync();
                b.unsubscribe();
                Check.until("all six back", () -> {
                    read(a);
                    return a.assignment().size() == 6;
                });
            }
            try (var again = member(bootstrap, group)) {
                again.subscribe(List.of(topic));
                Check.until("the assignment", () -> {
                    read(again);
                    return again.assignment().size() == 6;
                });
                Check.isTrue(again.committed(again.assignment()).values().stream().allMatch(Objects::nonNull), "offsets are committed");
            }
            Check.until("an empty group", () -> describe(admin, group).groupState() == GroupState.EMPTY);
            admin.deleteConsumerGroups(List.of(group)).all().get();
        }
    }

    static void pattern_of_the_broker_takes_in_topics_that_come(String bootstrap) throws Exception {
        String name = Check.unique("java-re2"), group = Check.unique("group-re2");
        try (Admin admin = Check.admin(bootstrap); var consumer = member(bootstrap, group)) {
            Check.create(admin, name + ".a", 2);
            consumer.subscribe(new SubscriptionPattern(name + "\\.[ab]"));
            Check.until("the topic that there is", () -> {
                read(consumer);
                return consumer.assignment().size() == 2;
            });
            Check.create(admin, name + ".b", 3);
            Check.create(admin, name + ".c", 1);
            Check.until("the topic that matches too", () -> {
                read(consumer);
                return consumer.assignment().size() == 5;
            });
        }
        try (var consumer = member(bootstrap, group)) {
            consumer.subscribe(new SubscriptionPattern("("));
            Check.until("the pattern is refused", () -> {
                try {
                    read(consumer);
                    return false;
                } catch (InvalidRegularExpression refused) {
                    return true;
                }
            });
        }
    }

    static void static_member_keeps_its_partitions(String bootstrap) throws Exception {
        String topic = Check.unique("java-static"), group = Check.unique("group-static");
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 4);
            Set<TopicPartition> before;
            try (var other = member(bootstrap, group)) {
                other.subscribe(List.of(topic));
                try (var first = member(bootstrap, group, "group.instance.id", "one")) {
                    first.subscribe(List.of(topic));
                    Check.until("two each", () -> {
                        read(first);
                        read(other);
                        return first.assignment().size() == 2 && other.assignment().size() == 2;
                    });
                    before = first.assignment();
                }
                try (var back = member(bootstrap, group, "group.instance.id", "one")) {
                    back.subscribe(List.of(topic));
                    Check.until("what it had", () -> {
                        read(back);
                        read(other);
                        Check.equal(2, other.assignment().size(), "partitions of the other member");
                        return back.assignment().equals(before);
                    });
                }
                admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("one")))).all().get();
                Check.until("all at the other", () -> {
                    read(other);
                    return other.assignment().size() == 4;
                });
            }
        }
    }

    static void topics_grow_and_intervals_are_the_groups(String bootstrap) throws Exception {
        String topic = Check.unique("java-grow"), group = Check.unique("group-grow");
        try (Admin admin = Check.admin(bootstrap); var consumer = member(bootstrap, group)) {
            Check.create(admin, topic, 1);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("consumer.heartbeat.interval.ms", "5000"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "45000"), AlterConfigOp.OpType.SET)))).all().get();
            consumer.subscribe(List.of(topic));
            Check.until("the partition", () -> {
                read(consumer);
                return consumer.assignment().size() == 1;
            });
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Check.until("the new partitions", () -> {
                read(consumer);
                return consumer.assignment().size() == 4;
            });
            Check.isTrue(admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))).all().get().stream()
                .anyMatch(listed -> listed.groupId().equals(group)), "the group is listed as a consumer group");
            Check.isTrue(admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))).all().get().stream()
                .noneMatch(listed -> listed.groupId().equals(group)), "and not as a classic one");
        }
    }
}
