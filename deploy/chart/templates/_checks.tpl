{{/* What the schema cannot say, in words. Included by the ConfigMap, which is always rendered. */}}
{{- define "stillwatch.checks" -}}
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
{{- $grace := include "stillwatch.setting" (list . "shutdown_grace_seconds" 30) | float64 -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $grace 15) -}}
{{- fail (printf "\n\nterminationGracePeriodSeconds=%v would kill a worker in its last checkpoint: settings.shutdown_grace_seconds is %v, and it needs 15 s more than that\n" .Values.terminationGracePeriodSeconds $grace) -}}
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
{{- if and .Values.strimzi.enabled (not .Values.strimzi.cluster) -}}
{{- fail "\n\nstrimzi.enabled needs strimzi.cluster: the name of the Kafka resource\n" -}}
{{- end -}}
{{- end -}}
