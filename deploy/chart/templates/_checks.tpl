{{/* What the schema cannot say, in words. Included by the workload, which is always rendered. */}}
{{- define "stillwatch.checks" -}}
{{- range list "image" "kafka" "topics" "settings" "baseline" "accountHashKeySecret" "storage" "resources" "probes"
  "podDisruptionBudget" "topologySpread" "podSecurityContext" "jobs" "service" "serviceAccount" "networkPolicy" "monitoring" "traces" "autoscaling" "strimzi" "replay" "canary" -}}
{{- if not (hasKey $.Values .) -}}
{{- fail (printf "\n\n%s is missing among the values: --reuse-values leaves out what is new in this chart. Upgrade with --reset-then-reuse-values instead\n" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.image.tag .Values.image.digest -}}
{{- fail "\n\nimage.tag and image.digest are both set: give one of them, and leave the other one empty\n" -}}
{{- end -}}
{{- if and (hasPrefix "localhost/" .Values.image.repository) (ne .Values.image.pullPolicy "Never") -}}
{{- fail (printf "\n\nimage.repository=%s is an image of the machine that built it, which no node can pull. Push it to a registry, and\n  --set image.repository=registry.example/stillwatch\nOr load it into every node, and --set image.pullPolicy=Never\n" .Values.image.repository) -}}
{{- end -}}
{{- $selecting := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- $telling := list "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- range $name, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "jobs.podLabels" .Values.jobs.podLabels -}}
{{- range $label := keys ($labels | default dict) -}}
{{- if or (has $label $selecting) (and (eq $name "commonLabels") (has $label $telling)) -}}
{{- fail (printf "\n\n%s: %s is the chart's own, by which its objects are found: give other labels\n" $name $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $security := .Values.kafka.security -}}
{{- if not .Values.kafka.brokers -}}
{{- fail "\n\nkafka.brokers is needed: where your Kafka is, as host:port, several separated by commas. For example\n  --set kafka.brokers=kafka-bootstrap.kafka:9092\n" -}}
{{- end -}}
{{- range splitList "," .Values.kafka.brokers -}}
{{- if not (regexMatch "^\\s*\\S+:[0-9]{1,5}\\s*$" .) -}}
{{- fail (printf "\n\nkafka.brokers: %q is not host:port\n" (trim .)) -}}
{{- end -}}
{{- end -}}
{{- if hasPrefix "SASL" $security.protocol -}}
{{- if not (and $security.username $security.passwordSecret.name) -}}
{{- fail (printf "\n\nkafka.security.protocol=%s needs kafka.security.username, and kafka.security.passwordSecret.name: a Secret that holds the password under the key %q\n" $security.protocol $security.passwordSecret.key) -}}
{{- end -}}
{{- else if $security.username -}}
{{- fail (printf "\n\nkafka.security.username is set, and kafka.security.protocol=%s asks nobody for a user: set it to SASL_SSL (or SASL_PLAINTEXT)\n" $security.protocol) -}}
{{- end -}}
{{- if and (or $security.caSecret.name $security.certificateSecret.name) (not (hasSuffix "SSL" $security.protocol)) -}}
{{- fail (printf "\n\nkafka.security names certificates, and kafka.security.protocol=%s uses none: set it to SSL or SASL_SSL\n" $security.protocol) -}}
{{- end -}}
{{- range $section := list "topics" "replay" "canary" -}}
{{- $who := index $.Values $section -}}
{{- if $who.username -}}
{{- if not (hasPrefix "SASL" $security.protocol) -}}
{{- fail (printf "\n\n%s.username is set, and kafka.security.protocol=%s asks nobody for a user: with SSL give %s.certificateSecret.name instead\n" $section $security.protocol $section) -}}
{{- else if not ($who.passwordSecret).name -}}
{{- fail (printf "\n\n%s.username needs %s.passwordSecret.name: a Secret that holds the password of this user\n" $section $section) -}}
{{- end -}}
{{- else if ($who.passwordSecret).name -}}
{{- fail (printf "\n\n%s.passwordSecret.name is set, and %s.username is not: whose password is it?\n" $section $section) -}}
{{- end -}}
{{- if and ($who.certificateSecret).name (not (hasSuffix "SSL" $security.protocol)) -}}
{{- fail (printf "\n\n%s.certificateSecret names a certificate, and kafka.security.protocol=%s uses none: set it to SSL or SASL_SSL\n" $section $security.protocol) -}}
{{- end -}}
{{- end -}}
{{- with .Values.networkPolicy -}}
{{- if and .enabled (not .kafkaPeers) (not .kafkaAnywhere) -}}
{{- fail "\n\nnetworkPolicy.kafkaPeers is needed: where the brokers are, as peers of a NetworkPolicy, such as\n  [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kafka}}}]   or   [{ipBlock: {cidr: 10.1.2.0/24}}]\nOr set networkPolicy.kafkaAnywhere=true, and pods may reach any address on Kafka's ports\n" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.traces.endpoint .Values.networkPolicy.enabled (not .Values.networkPolicy.collectorPeers) (not .Values.networkPolicy.collectorAnywhere) -}}
{{- fail (printf "\n\ntraces.endpoint needs networkPolicy.collectorPeers: where the collector is, as peers of a NetworkPolicy, such as\n  [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: observability}}}]\nOr set networkPolicy.collectorAnywhere=true, and pods may reach any address on its port, %s\n" (include "stillwatch.collectorPort" .)) -}}
{{- end -}}
{{- $grace := include "stillwatch.setting" (list . "shutdown_grace_seconds" 30) | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $grace 15) -}}
{{- fail (printf "\n\nterminationGracePeriodSeconds=%v would kill a worker in its last checkpoint: settings.shutdown_grace_seconds is %v, and it needs 15 s more than that\n" .Values.terminationGracePeriodSeconds $grace) -}}
{{- end -}}
{{- $rebalance := include "stillwatch.setting" (list . "rebalance_timeout_seconds" 15) | float64 -}}
{{- if le (float64 .Values.probes.readinessSeconds) $rebalance -}}
{{- fail (printf "\n\nprobes.readinessSeconds=%v is no longer than settings.rebalance_timeout_seconds=%v: one worker that goes would make the others not ready, and a drain could take them all. Give it time to read states back as well\n" .Values.probes.readinessSeconds $rebalance) -}}
{{- end -}}
{{- $ids := include "stillwatch.setting" (list . "account_ids" "plain") -}}
{{- if and (eq $ids "hashed") (not .Values.accountHashKeySecret.name) -}}
{{- fail "\n\nsettings.account_ids=hashed needs accountHashKeySecret.name: a Secret that holds the key of the hashes\n" -}}
{{- end -}}
{{- if and .Values.baseline.content .Values.baseline.configMap -}}
{{- fail "\n\nbaseline.content and baseline.configMap are both set: give one of them\n" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.maxReplicas (gt (int .Values.autoscaling.maxReplicas) (int .Values.topics.partitions)) -}}
{{- fail (printf "\n\nautoscaling.maxReplicas=%v is more than topics.partitions=%v: a worker without a partition does nothing\n" .Values.autoscaling.maxReplicas .Values.topics.partitions) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int (.Values.autoscaling.maxReplicas | default .Values.topics.partitions))) -}}
{{- fail "\n\nautoscaling.minReplicas is more than the most there may be (autoscaling.maxReplicas, else topics.partitions)\n" -}}
{{- end -}}
{{- if and .Values.canary.enabled (not (include "stillwatch.setting" (list . "canary_prefix" ""))) -}}
{{- fail "\n\ncanary.enabled needs settings.canary_prefix: how the names of its accounts begin, which your gateway gives no customer: canary- and eight random letters\n" -}}
{{- end -}}
{{- if and .Values.canary.enabled .Values.strimzi.enabled (ne $security.protocol "PLAINTEXT") (not .Values.canary.username) (not .Values.canary.certificateSecret.name) -}}
{{- fail "\n\ncanary.enabled needs a user of its own with strimzi.enabled, as the workers' user may not read alerts: the user strimzi.users.canary, as canary.username and canary.passwordSecret.name with SASL, or canary.certificateSecret.name with TLS\n" -}}
{{- end -}}
{{- if .Values.replay.enabled -}}
{{- $now := dateInZone "2006-01-02T15:04:05Z" now "UTC" -}}
{{- range $edge := list "since" "until" -}}
{{- $given := index $.Values.replay $edge -}}
{{- if regexMatch "^[0-9.]+[smhd]$" $given -}}
{{- fail (printf "\n\nreplay.%s=%s would be another time for each pod, and for each try of one, as each counts back from its own start. Give the time itself, such as\n  --set replay.%s=$(date -u -d '2 days ago' +%%FT%%TZ)\n" $edge $given $edge) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.replay.until -}}
{{- fail "\n\nreplay.until is needed: without it each pod, and each try of one, would read to where the topic ends when it starts. For all up to now\n  --set replay.until=$(date -u +%FT%TZ)\n" -}}
{{- end -}}
{{- if and (hasSuffix "Z" .Values.replay.until) (gt .Values.replay.until $now) -}}
{{- fail (printf "\n\nreplay.until=%s is still to come: each pod would read to where the topic ends when it starts. It is %s\n" .Values.replay.until $now) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.strimzi.enabled (not .Values.strimzi.cluster) -}}
{{- fail "\n\nstrimzi.enabled needs strimzi.cluster: the name of the Kafka resource\n" -}}
{{- end -}}
{{- end -}}
