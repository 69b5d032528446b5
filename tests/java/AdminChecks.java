import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;

/** Java's admin client. main: BOOTSTRAP CHECK.. */
public class AdminChecks {
    public static void main(String[] args) throws Exception {
        Check.run(AdminChecks.class, args);
    }

    private static Config describe(Admin admin, ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true))
            .all().get().get(resource);
    }

    private static ConfigResource topicResource(String topic) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    static void topics_with_configs_come_and_go(String bootstrap) throws Exception {
        String topic = Check.unique("admin"), other = Check.unique("admin");
        try (Admin admin = Check.admin(bootstrap)) {
            CreateTopicsResult made = admin.createTopics(List.of(
                new NewTopic(topic, 5, (short) 1).configs(Map.of("segment.ms", "888000", "retention.ms", "777000")),
                new NewTopic(other, Optional.empty(), Optional.empty())));
            made.all().get();
            Check.equal(5, made.numPartitions(topic).get(), "partitions in the answer");
            Check.equal(1, made.replicationFactor(topic).get(), "replicas in the answer");
            Check.equal("777000", made.config(topic).get().get("retention.ms").value(), "retention.ms in the answer");
            Check.leaders(admin, topic, 5);
            Check.leaders(admin, other, 4);
            TopicDescription d = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            Check.equal(made.topicId(topic).get(), d.topicId(), "topic id");
            Check.isTrue(!d.isInternal(), "not internal");
            Check.equal(topic, admin.describeTopics(TopicCollection.ofTopicIds(List.of(d.topicId()))).allTopicIds().get().get(d.topicId()).name(), "by id");
            Check.equal(d.topicId(), admin.listTopics().namesToListings().get().get(topic).topicId(), "listed with its id");
            Check.fails(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get(), "again");
            Check.fails(InvalidTopicException.class, () -> admin.createTopics(List.of(new NewTopic("a/b", 1, (short) 1))).all().get(), "a/b");
            Check.fails(InvalidPartitionsException.class, () -> admin.createTopics(List.of(new NewTopic(Check.unique("x"), 0, (short) 1))).all().get(), "0 partitions");
            Check.fails(InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(new NewTopic(Check.unique("x"), 1, (short) 9))).all().get(), "9 replicas");
            Check.fails(InvalidConfigurationException.class, () -> admin.createTopics(List.of(new NewTopic(Check.unique("x"), 1, (short) 1).configs(Map.of("nonsense", "1")))).all().get(), "nonsense");
            admin.createTopics(List.of(new NewTopic(Check.unique("dry"), 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
            admin.deleteTopics(List.of(other)).all().get();
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(d.topicId()))).all().get();
            Check.until("both to go", () -> Collections.disjoint(admin.listTopics().names().get(), List.of(topic, other)));
            Check.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(topic)).all().get(), "deleted twice");
            Check.fails(UnknownTopicIdException.class, () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(d.topicId()))).all().get(), "deleted twice by id");
        }
    }

    static void configs_are_described_with_source_and_synonyms(String bootstrap) throws Exception {
        String topic = Check.unique("configs");
        try (Admin admin = Check.admin(bootstrap)) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("segment.bytes", "1234567")))).all().get();
            Check.leaders(admin, topic, 1);
            Config config = describe(admin, topicResource(topic));
            ConfigEntry segment = config.get("segment.bytes");
            Check.equal("1234567", segment.value(), "segment.bytes");
            Check.equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, segment.source(), "its source");
            Check.equal(ConfigEntry.ConfigType.INT, segment.type(), "its type");
            Check.isTrue(segment.documentation() != null, "documentation");
            List<String> names = segment.synonyms().stream().map(ConfigEntry.ConfigSynonym::name).toList();
            Check.equal("segment.bytes", names.get(0), "first synonym");
            Check.isTrue(names.contains("log.segment.bytes"), "the broker's synonym, in " + names);
            ConfigEntry compression = config.get("compression.type");
            Check.equal("producer", compression.value(), "compression.type");
            Check.isTrue(compression.isDefault(), "a default is one");
            for (String name : List.of("cleanup.policy", "delete.retention.ms", "file.delete.delay.ms", "flush.messages", "flush.ms",
                "index.interval.bytes", "max.compaction.lag.ms", "max.message.bytes", "message.timestamp.after.max.ms",
                "message.timestamp.before.max.ms", "message.timestamp.type", "min.cleanable.dirty.ratio", "min.compaction.lag.ms",
                "min.insync.replicas", "preallocate", "retention.bytes", "retention.ms", "segment.index.bytes", "segment.jitter.ms",
                "segment.ms", "unclean.leader.election.enable"))
                Check.isTrue(config.get(name) != null, name + " is described");
            Node node = admin.describeCluster().nodes().get().iterator().next();
            Config broker = describe(admin, new ConfigResource(ConfigResource.Type.BROKER, node.idString()));
            Check.equal("4", broker.get("num.partitions").value(), "num.partitions of the broker");
            Check.equal(ConfigEntry.ConfigSource.STATIC_BROKER_CONFIG, broker.get("num.partitions").source(), "its source");
            Check.fails(UnknownTopicOrPartitionException.class, () -> describe(admin, topicResource("no-such-topic")), "no such topic");
        }
    }

    static void configs_are_altered_one_by_one(String bootstrap) throws Exception {
        String topic = Check.unique("alter");
        try (Admin admin = Check.admin(bootstrap)) {
            admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "5000", "cleanup.policy", "delete")))).all().get();
            Check.leaders(admin, topic, 1);
            ConfigResource r = topicResource(topic);
            admin.incrementalAlterConfigs(Map.of(r, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "4321"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "delete"), AlterConfigOp.OpType.APPEND)))).all().get();
            Check.until("the changes", () -> {
                Config c = describe(admin, r);
                return c.get("max.message.bytes").value().equals("4321") && c.get("retention.ms").value().equals("604800000")
                    && c.get("cleanup.policy").value().equals("delete");
            });
            Check.fails(InvalidConfigurationException.class, () -> admin.incrementalAlterConfigs(Map.of(r, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "-7"), AlterConfigOp.OpType.SET)))).all().get(), "a bad value");
            Check.fails(InvalidConfigurationException.class, () -> admin.incrementalAlterConfigs(Map.of(r, List.of(
                new AlterConfigOp(new ConfigEntry("no.such.thing", "1"), AlterConfigOp.OpType.SET)))).all().get(), "an unknown name");
            admin.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("segment.ms", "99999"), AlterConfigOp.OpType.SET))),
                new AlterConfigsOptions().validateOnly(true)).all().get();
            Check.equal("4321", describe(admin, r).get("max.message.bytes").value(), "a refused change changes nothing");
            Check.equal("604800000", describe(admin, r).get("segment.ms").value(), "validate only");
            Check.fails(UnknownTopicOrPartitionException.class, () -> admin.incrementalAlterConfigs(Map.of(topicResource("no-such-topic"), List.of(
                new AlterConfigOp(new ConfigEntry("segment.ms", "99999"), AlterConfigOp.OpType.SET)))).all().get(), "no such topic");
        }
    }

    static void partitions_are_added(String bootstrap) throws Exception {
        String topic = Check.unique("grow");
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 1);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
            Check.leaders(admin, topic, 4);
            Check.fails(InvalidPartitionsException.class, () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get(), "fewer");
            Check.fails(InvalidPartitionsException.class, () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get(), "as many");
            Check.fails(UnknownTopicOrPartitionException.class, () -> admin.createPartitions(Map.of("no-such-topic", NewPartitions.increaseTo(4))).all().get(), "no such topic");
        }
    }

    static void offsets_are_listed_by_every_spec_and_records_deleted(String bootstrap) throws Exception {
        String topic = Check.unique("offsets");
        TopicPartition p = new TopicPartition(topic, 0);
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap)) {
            Check.create(admin, topic, 1);
            var empty = admin.listOffsets(Map.of(p, OffsetSpec.maxTimestamp())).partitionResult(p).get();
            Check.equal(-1L, empty.offset(), "max timestamp of an empty partition");
            long[] times = {100, 500, 300, 900, 900, 200};
            for (long t : times)
                producer.send(new ProducerRecord<>(topic, 0, 1700000000000L + t, "k".getBytes(UTF_8), "v".getBytes(UTF_8)));
            producer.flush();
            Map<String, Long> found = new TreeMap<>();
            Map<String, OffsetSpec> specs = Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "max", OffsetSpec.maxTimestamp(),
                "time", OffsetSpec.forTimestamp(1700000000400L), "late", OffsetSpec.forTimestamp(1700000009999L), "local", OffsetSpec.earliestLocal());
            for (var s : specs.entrySet())
                found.put(s.getKey(), admin.listOffsets(Map.of(p, s.getValue())).partitionResult(p).get().offset());
            Check.equal(Map.of("earliest", 0L, "latest", 6L, "max", 3L, "time", 1L, "late", -1L, "local", 0L), found, "offsets by spec");
            var committed = admin.listOffsets(Map.of(p, OffsetSpec.latest()), new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).partitionResult(p).get();
            Check.equal(6L, committed.offset(), "read committed");
            Check.equal(4L, admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(p).get().lowWatermark(), "low watermark");
            Check.equal(4L, admin.listOffsets(Map.of(p, OffsetSpec.earliest())).partitionResult(p).get().offset(), "earliest after it");
            Check.fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, () -> admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(99))).all().get(), "beyond the end");
            Check.equal(6L, admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(-1))).lowWatermarks().get(p).get().lowWatermark(), "all of them");
        }
    }

    static void cluster_log_dirs_and_features_are_described(String bootstrap) throws Exception {
        String topic = Check.unique("dirs");
        try (Admin admin = Check.admin(bootstrap); var producer = Check.producer(bootstrap)) {
            Check.create(admin, topic, 2);
            producer.send(new ProducerRecord<>(topic, 0, null, new byte[5000])).get();
            DescribeClusterResult cluster = admin.describeCluster();
            Check.isTrue(cluster.clusterId().get().length() > 0, "a cluster id");
            Collection<Node> nodes = cluster.nodes().get();
            Check.isTrue(!nodes.isEmpty(), "nodes");
            Check.isTrue(nodes.stream().anyMatch(n -> { try { return n.id() == cluster.controller().get().id(); } catch (Exception e) { throw new RuntimeException(e); } }), "the controller is a node");
            Set<String> replicas = new TreeSet<>();
            long size = 0;
            for (var dirs : admin.describeLogDirs(nodes.stream().map(Node::id).toList()).allDescriptions().get().values())
                for (var dir : dirs.values()) {
                    Check.equal(null, dir.error(), "error of a log dir");
                    Check.isTrue(dir.totalBytes().getAsLong() > dir.usableBytes().getAsLong(), "space of the volume");
                    for (var replica : dir.replicaInfos().entrySet())
                        if (replica.getKey().topic().equals(topic)) {
                            replicas.add(replica.getKey().toString());
                            size += replica.getValue().size();
                        }
                }
            Check.equal(Set.of(topic + "-0", topic + "-1"), replicas, "replicas, each once");
            Check.isTrue(size >= 5000 && size < 100000, "size of the replicas: " + size);
            admin.describeFeatures().featureMetadata().get();
        }
    }

    static void groups_are_listed_described_and_deleted(String bootstrap) throws Exception {
        String topic = Check.unique("groups"), group = Check.unique("group");
        TopicPartition p0 = new TopicPartition(topic, 0), p1 = new TopicPartition(topic, 1);
        try (Admin admin = Check.admin(bootstrap)) {
            Check.create(admin, topic, 2);
            try (var consumer = Check.consumer(bootstrap, "group.id", group, "client.id", "member-of-a-test", "group.instance.id", "instance-1")) {
                consumer.subscribe(List.of(topic));
                Check.until("the assignment", () -> {
                    consumer.poll(Duration.ofMillis(50));
                    return consumer.assignment().size() == 2;
                });
                consumer.commitSync(Map.of(p0, new OffsetAndMetadata(0, "first"), p1, new OffsetAndMetadata(0)));
                ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
                Check.equal(GroupState.STABLE, d.groupState(), "state");
                Check.equal("range", d.partitionAssignor(), "assignor");
                MemberDescription m = d.members().iterator().next();
                Check.equal("member-of-a-test", m.clientId(), "client id");
                Check.equal(Optional.of("instance-1"), m.groupInstanceId(), "instance id");
                Check.equal(Set.of(p0, p1), m.assignment().topicPartitions(), "assignment");
                Check.fails(GroupNotEmptyException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "a group with a member");
                Check.fails(GroupSubscribedToTopicException.class, () -> admin.deleteConsumerGroupOffsets(group, Set.of(p0)).partitionResult(p0).get(), "offsets of a subscribed topic");
                admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("instance-1")))).all().get();
            }
            Check.until("the group to be empty", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY);
            Check.isTrue(admin.listGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)), "the group is listed");
            Check.isTrue(admin.listGroups(new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).all().get().stream()
                .anyMatch(g -> g.groupId().equals(group)), "listed by state");
            Check.isTrue(admin.listGroups(new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).all().get().stream()
                .noneMatch(g -> g.groupId().equals(group)), "not listed by another state");
            Check.equal("first", admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(p0).metadata(), "metadata of the commit");
            admin.alterConsumerGroupOffsets(group, Map.of(p0, new OffsetAndMetadata(0, "second"))).all().get();
            Check.equal("second", admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(p0).metadata(), "altered");
            admin.deleteConsumerGroupOffsets(group, Set.of(p0)).all().get();
            Check.equal(Set.of(p1), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().keySet(), "one offset is left");
            admin.deleteConsumerGroups(List.of(group)).all().get();
            Check.isTrue(admin.listGroups().all().get().stream().noneMatch(g -> g.groupId().equals(group)), "the group is gone");
            Check.fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get(), "deleted twice");
            Check.fails(GroupIdNotFoundException.class, () -> admin.describeConsumerGroups(List.of(group)).all().get(), "described after it is gone");
            Check.equal(Map.of(), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), "offsets of no group");
        }
    }

    static void config_resources_are_listed(String bootstrap) throws Exception {
        try (Admin admin = Check.admin(bootstrap)) {
            String topic = Check.unique("resource");
            Check.create(admin, topic, 1);
            var all = admin.listConfigResources().all().get();
            Check.isTrue(all.contains(topicResource(topic)), "the topic among the resources");
            Check.isTrue(all.stream().anyMatch(r -> r.type() == ConfigResource.Type.BROKER), "a broker among the resources");
        }
    }
}
