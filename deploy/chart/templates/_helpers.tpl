{{/* 45 letters leave room for what is put behind it: a CronJob's name ends at 52. */}}
{{- define "stillwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stillwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Labels of everything. The version stays out of what selects. */}}
{{- define "stillwatch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "stillwatch.selector" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What selects pods of a kind: (list . "worker"). */}}
{{- define "stillwatch.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "stillwatch.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels and annotations of a pod: (list . "worker" annotations). All but workers are pods of Jobs. */}}
{{- define "stillwatch.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values -}}
{{- $ofJobs := ternary dict $values.jobs (eq (index . 1) "worker") -}}
labels:
  {{- include "stillwatch.podLabels" . | nindent 2 }}
  {{- with mergeOverwrite dict ($values.commonLabels | default dict) ($values.podLabels | default dict) ($ofJobs.podLabels | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with mergeOverwrite dict ($values.podAnnotations | default dict) ($ofJobs.podAnnotations | default dict) (index . 2) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stillwatch.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "stillwatch.store" -}}
{{ ternary "rocksdict" "memory" (eq .Values.workload "StatefulSet") }}
{{- end -}}

{{/* A setting: (list . "name" default), the chart's value of settings.name. */}}
{{- define "stillwatch.setting" -}}
{{- $settings := (index . 0).Values.settings -}}
{{- if hasKey $settings (index . 1) -}}{{ index $settings (index . 1) }}{{- else -}}{{ index . 2 }}{{- end -}}
{{- end -}}

{{- define "stillwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The head of every pod: who it is, what it may. */}}
{{- define "stillwatch.podHead" -}}
automountServiceAccountToken: false
# Kubernetes would give every pod variables with our prefix for a service of our name.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where workers may run: the affinity given, and with antiAffinity no two of them on one node. */}}
{{- define "stillwatch.affinity" -}}
{{- $affinity := deepCopy (.Values.affinity | default dict) -}}
{{- if .Values.antiAffinity -}}
{{- $required := "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- $apart := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "stillwatch.podLabels" (list . "worker") | fromYaml)) -}}
{{- if and (eq .Values.workload "Deployment") (semverCompare ">=1.31-0" .Capabilities.KubeVersion.Version) -}}
{{- $_ := set $apart "matchLabelKeys" (list "pod-template-hash") -}}
{{- end -}}
{{- $pods := $affinity.podAntiAffinity | default dict -}}
{{- $_ := set $pods $required (append (index $pods $required | default list) $apart) -}}
{{- $_ := set $affinity "podAntiAffinity" $pods -}}
{{- end -}}
{{- with $affinity -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The chart's values for pods that may be another user to Kafka: (list . "replay"), as JSON. Who is not told apart by
its own section is the workers' user. */}}
{{- define "stillwatch.as" -}}
{{- $root := index . 0 -}}
{{- $who := index $root.Values (index . 1) -}}
{{- $values := deepCopy $root.Values -}}
{{- if $who.username -}}
{{- $_ := set $values.kafka.security "username" $who.username -}}
{{- $_ := set $values.kafka.security "passwordSecret" $who.passwordSecret -}}
{{- end -}}
{{- if ($who.certificateSecret).name -}}
{{- $_ := set $values.kafka.security "certificateSecret" $who.certificateSecret -}}
{{- end -}}
{{- dict "Values" $values "Release" (dict "Name" $root.Release.Name) "Chart" (dict "Name" $root.Chart.Name "AppVersion" $root.Chart.AppVersion) | toJson -}}
{{- end -}}

{{- define "stillwatch.credentials" -}}
{{- $security := .Values.kafka.security -}}
{{- if or $security.passwordSecret.name $security.caSecret.name $security.certificateSecret.name -}}true{{- end -}}
{{- end -}}

{{/* How to reach and convince the brokers: environment of every pod. Files are in the volume "credentials". */}}
{{- define "stillwatch.connectionEnv" -}}
{{- $kafka := .Values.kafka -}}
{{- $security := $kafka.security -}}
- name: STILLWATCH_BROKERS
  value: {{ $kafka.brokers | quote }}
- name: STILLWATCH_TOPIC_PREFIX
  value: {{ $kafka.topicPrefix | quote }}
- name: STILLWATCH_SECURITY_PROTOCOL
  value: {{ $security.protocol | quote }}
{{- if hasPrefix "SASL" $security.protocol }}
- name: STILLWATCH_SASL_MECHANISM
  value: {{ $security.mechanism | quote }}
- name: STILLWATCH_SASL_USERNAME
  value: {{ $security.username | quote }}
- name: STILLWATCH_SASL_PASSWORD_FILE
  value: /etc/stillwatch/credentials/password
{{- end }}
{{- if $security.caSecret.name }}
- name: STILLWATCH_SSL_CA_FILE
  value: /etc/stillwatch/credentials/ca.crt
{{- end }}
{{- if $security.certificateSecret.name }}
- name: STILLWATCH_SSL_CERT_FILE
  value: /etc/stillwatch/credentials/tls.crt
- name: STILLWATCH_SSL_KEY_FILE
  value: /etc/stillwatch/credentials/tls.key
{{- if $security.certificateSecret.keyPasswordKey }}
- name: STILLWATCH_SSL_KEY_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $security.certificateSecret.name | quote }}
      key: {{ $security.certificateSecret.keyPasswordKey | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Under which keys a Secret holds a certificate and its key: (list . secret), as JSON. */}}
{{- define "stillwatch.certificateKeys" -}}
{{- $strimzi := (index . 0).Values.strimzi -}}
{{- $ofStrimzi := and $strimzi.enabled (eq $strimzi.authentication "tls") -}}
{{- $secret := index . 1 -}}
{{- dict "certificate" ($secret.certificateKey | default (ternary "user.crt" "tls.crt" $ofStrimzi)) "key" ($secret.keyKey | default (ternary "user.key" "tls.key" $ofStrimzi)) | toJson -}}
{{- end -}}

{{/* One volume for all of them, so that a rotation shows at once. No subPath: such a mount never changes. */}}
{{- define "stillwatch.credentialsVolume" -}}
{{- $security := .Values.kafka.security -}}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      {{- with $security.passwordSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name | quote }}
          items: [{key: {{ .key | quote }}, path: password}]
      {{- end }}
      {{- end }}
      {{- with $security.caSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name | quote }}
          items: [{key: {{ .key | quote }}, path: ca.crt}]
      {{- end }}
      {{- end }}
      {{- with $security.certificateSecret }}
      {{- if .name }}
      {{- $keys := include "stillwatch.certificateKeys" (list $ .) | fromJson }}
      - secret:
          name: {{ .name | quote }}
          items: [{key: {{ $keys.certificate | quote }}, path: tls.crt}, {key: {{ $keys.key | quote }}, path: tls.key}]
      {{- end }}
      {{- end }}
{{- end -}}

{{/* Environment, mounts and volumes that all pods have in common. */}}
{{- define "stillwatch.scoringEnv" -}}
{{ include "stillwatch.connectionEnv" . }}
- name: STILLWATCH_CONFIG
  value: /etc/stillwatch/config/stillwatch.toml
{{- if or .Values.baseline.content .Values.baseline.configMap }}
- name: STILLWATCH_BASELINE_FILE
  value: {{ printf "/etc/stillwatch/baseline/%s" .Values.baseline.key | quote }}
{{- end }}
{{- with .Values.accountHashKeySecret }}
{{- if .name }}
- name: STILLWATCH_ACCOUNT_HASH_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "stillwatch.scoringMounts" -}}
- name: tmp
  mountPath: /tmp
- name: config
  mountPath: /etc/stillwatch/config
  readOnly: true
{{- if or .Values.baseline.content .Values.baseline.configMap }}
- name: baseline
  mountPath: /etc/stillwatch/baseline
  readOnly: true
{{- end }}
{{- if include "stillwatch.credentials" . }}
- name: credentials
  mountPath: /etc/stillwatch/credentials
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* (list . "name"): the ConfigMap of the settings is called so, that of the baseline likewise with -baseline. */}}
{{- define "stillwatch.scoringVolumes" -}}
{{- $config := index . 1 -}}
{{- with index . 0 -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
- name: config
  configMap:
    name: {{ $config | quote }}
{{- if .Values.baseline.content }}
- name: baseline
  configMap:
    name: {{ printf "%s-baseline" $config | quote }}
{{- else if .Values.baseline.configMap }}
- name: baseline
  configMap:
    name: {{ .Values.baseline.configMap | quote }}
{{- end }}
{{- if include "stillwatch.credentials" . }}
{{ include "stillwatch.credentialsVolume" . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The ConfigMaps that those volumes name: (list . "name"). */}}
{{- define "stillwatch.configMaps" -}}
{{- $config := index . 1 -}}
{{- with index . 0 -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $config | quote }}
  labels:
    {{- include "stillwatch.labels" . | nindent 4 }}
data:
  stillwatch.toml: |
    {{- toToml .Values.settings | trim | nindent 4 }}
{{- if .Values.baseline.content }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ printf "%s-baseline" $config | quote }}
  labels:
    {{- include "stillwatch.labels" . | nindent 4 }}
data:
  {{ .Values.baseline.key | quote }}: {{ .Values.baseline.content | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Ports of the brokers: those given, else those of kafka.brokers. */}}
{{- define "stillwatch.kafkaPorts" -}}
{{- $ports := dict -}}
{{- range .Values.networkPolicy.kafkaPorts }}{{- $_ := set $ports (. | toString) true -}}{{- end -}}
{{- if not $ports -}}
{{- range splitList "," .Values.kafka.brokers }}{{- $_ := set $ports (. | trim | splitList ":" | last) true -}}{{- end -}}
{{- end -}}
{{- keys $ports | sortAlpha | join "," -}}
{{- end -}}

{{/* Port of the collector: the one of its address, else its protocol's. */}}
{{- define "stillwatch.collectorPort" -}}
{{- $address := urlParse .Values.traces.endpoint -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $address.host) | default (ternary "443" "80" (eq $address.scheme "https")) -}}
{{- end -}}

{{/* Environment of traces. No name may come twice, so what extraEnv says is left to it. */}}
{{- define "stillwatch.tracesEnv" -}}
- name: STILLWATCH_OTLP_ENDPOINT
  value: {{ .Values.traces.endpoint | quote }}
{{- $given := list -}}
{{- range .Values.extraEnv }}{{- $given = append $given .name -}}{{- end }}
{{- if not (has "OTEL_SERVICE_NAME" $given) }}
- name: OTEL_SERVICE_NAME
  value: {{ include "stillwatch.fullname" . | quote }}
{{- end }}
{{- end -}}

{{- define "stillwatch.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "stillwatch.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What a pod of ours may reach: name servers and brokers. */}}
{{- define "stillwatch.egress" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - {port: {{ . }}, protocol: UDP}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.dnsPeers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range splitList "," (include "stillwatch.kafkaPorts" .) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.networkPolicy.kafkaPeers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
