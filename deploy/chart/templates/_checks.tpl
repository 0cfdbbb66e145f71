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
{{- include "stillwatch.checkExtraEnv" . -}}
{{- range $label := list "severity" "namespace" "service" -}}
{{- if hasKey ($.Values.monitoring.prometheusRule.extraLabels | default dict) $label -}}
{{- fail (printf "\n\nmonitoring.prometheusRule.extraLabels: %s is the chart's own, by which alarms and releases are told apart: give other labels\n" $label) -}}
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
{{- $session := include "stillwatch.setting" (list . "session_timeout_seconds" 10) | float64 -}}
{{- range $wait := list "scaleUpStabilizationSeconds" "scaleDownPeriodSeconds" -}}
{{- if and $.Values.autoscaling.enabled (le (index $.Values.autoscaling $wait | float64) $session) -}}
{{- fail (printf "\n\nautoscaling.%s=%v is no longer than settings.session_timeout_seconds=%v: partitions of a worker that was taken away lie idle for that long, and what waits on them would call it back. Give it half a minute more\n" $wait (index $.Values.autoscaling $wait) $session) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.canary.enabled (not (include "stillwatch.setting" (list . "canary_prefix" ""))) -}}
{{- fail "\n\ncanary.enabled needs settings.canary_prefix: how the names of its accounts begin, which your gateway gives no customer: canary- and eight random letters\n" -}}
{{- end -}}
{{- with .Values.monitoring -}}
{{- if and .podMonitor.enabled .serviceMonitor.enabled -}}
{{- fail "\n\nmonitoring.podMonitor.enabled and monitoring.serviceMonitor.enabled are both set: each worker's metrics would be fetched twice, and every sum of an alarm or panel be double. Turn one of them off; the PodMonitor is enough\n" -}}
{{- end -}}
{{- range $kind := list "podMonitor" "serviceMonitor" -}}
{{- with index $.Values.monitoring $kind -}}
{{- if and .enabled (not (regexMatch "^([1-9][0-9]?s|1[01][0-9]s|120s|[12]m)$" .interval)) -}}
{{- fail (printf "\n\nmonitoring.%s.interval=%s is too long: alarms look at rates over five minutes and more, for which metrics are needed at least every 2m\n" $kind .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.canary.enabled .Values.strimzi.enabled (ne $security.protocol "PLAINTEXT") (not .Values.canary.username) (not .Values.canary.certificateSecret.name) -}}
{{- fail "\n\ncanary.enabled needs a user of its own with strimzi.enabled, as the workers' user may not read alerts: the user strimzi.users.canary, as canary.username and canary.passwordSecret.name with SASL, or canary.certificateSecret.name with TLS\n" -}}
{{- end -}}
{{- if .Values.replay.enabled -}}
{{- include "stillwatch.checkWindow" .Values.replay -}}
{{- end -}}
{{- if and .Values.strimzi.enabled (not .Values.strimzi.cluster) -}}
{{- fail "\n\nstrimzi.enabled needs strimzi.cluster: the name of the Kafka resource\n" -}}
{{- end -}}
{{- end -}}

{{/* Variables of extraEnv have names of their own: with one that a pod has already, or twice, the API server refuses the
pod, or the last one wins. */}}
{{- define "stillwatch.checkExtraEnv" -}}
{{- $names := list -}}
{{- range .Values.extraEnv -}}
{{- if regexMatch "(?i)^STILLWATCH_" .name -}}
{{- $setting := trimPrefix "stillwatch_" (lower .name) -}}
{{- fail (printf "\n\nextraEnv: %s is the chart's own. Set settings.%s, or where there is none of that name the value of the chart that it follows from (kafka, topics, baseline, accountHashKeySecret, metricsPort, traces)\n" .name $setting) -}}
{{- else if has .name (list "POD_NAME" "POD_NAMESPACE") -}}
{{- fail (printf "\n\nextraEnv: %s is the chart's own, from which a worker has its name in the group: take another name, and valueFrom.fieldRef for what is in it\n" .name) -}}
{{- else if has .name $names -}}
{{- fail (printf "\n\nextraEnv has %s twice: leave one of them\n" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}

{{/* Milliseconds since 1970 of a time as `replay` takes it, that is the same whenever it is read; nothing of others. */}}
{{- define "stillwatch.milliseconds" -}}
{{- if regexMatch "^[0-9]{13}$" . -}}
{{ . }}
{{- else -}}
{{- $whole := regexReplaceAll "^([0-9]{4}-[0-9]{2}-[0-9]{2})$" . "${1}T00:00Z" -}}
{{- $whole = regexReplaceAll "T([0-9]{2}:[0-9]{2})(Z|[-+].*)$" $whole "T${1}:00${2}" -}}
{{- $time := toDate "2006-01-02T15:04:05Z07:00" $whole -}}
{{- if not $time.IsZero -}}{{ $time.UnixMilli }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The window of a replay, of its values: it begins and ends at times that do not move, and is over. */}}
{{- define "stillwatch.checkWindow" -}}
{{- $replay := . -}}
{{- if not .until -}}
{{- fail "\n\nreplay.until is needed: without it each pod, and each try of one, would read to where the topic ends when it starts. For all up to now\n  --set replay.until=$(date -u +%FT%TZ)\n" -}}
{{- end -}}
{{- range $edge := list "since" "until" -}}
{{- $given := index $replay $edge -}}
{{- $fitting := printf "Give the time itself, such as\n  --set replay.%s=$(date -u -d '2 days ago' +%%FT%%TZ)\n" $edge -}}
{{- if regexMatch "^[0-9.]+[smhd]$" $given -}}
{{- fail (printf "\n\nreplay.%s=%s would be another time for each pod, and for each try of one, as each counts back from its own start. %s" $edge $given $fitting) -}}
{{- else if and $given (not (include "stillwatch.milliseconds" $given)) -}}
{{- fail (printf "\n\nreplay.%s=%s is no time that a replay takes: a date, a date and time with its zone (Z), or milliseconds (13 digits). %s" $edge $given $fitting) -}}
{{- end -}}
{{- end -}}
{{- $now := now -}}
{{- $until := include "stillwatch.milliseconds" .until | int64 -}}
{{- if gt $until $now.UnixMilli -}}
{{- fail (printf "\n\nreplay.until=%s is still to come: each pod would read to where the topic ends when it starts. It is %s\n" .until (dateInZone "2006-01-02T15:04:05Z" $now "UTC")) -}}
{{- end -}}
{{- if and .since (ge (include "stillwatch.milliseconds" .since | int64) $until) -}}
{{- fail (printf "\n\nreplay.since=%s is not before replay.until=%s: there is nothing between them to replay\n" .since .until) -}}
{{- end -}}
{{- end -}}
