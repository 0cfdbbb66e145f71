{{- define "stillwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stillwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of everything. The version stays out of what selects. */}}
{{- define "stillwatch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "stillwatch.selector" . }}
{{- end -}}

{{/* Labels of a pod: (list . "worker"). */}}
{{- define "stillwatch.podLabels" -}}
{{- $root := index . 0 -}}
{{ include "stillwatch.selector" $root }}
app.kubernetes.io/component: {{ index . 1 }}
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

{{/* What restricted Pod Security asks of a pod, and more. */}}
{{- define "stillwatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
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
securityContext:
  {{- include "stillwatch.podSecurity" . | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
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
{{- dict "Values" $values "Release" (dict "Name" $root.Release.Name) "Chart" (dict "Name" $root.Chart.Name) | toJson -}}
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
  value: {{ $security.protocol }}
{{- if hasPrefix "SASL" $security.protocol }}
- name: STILLWATCH_SASL_MECHANISM
  value: {{ $security.mechanism }}
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
      name: {{ $security.certificateSecret.name }}
      key: {{ $security.certificateSecret.keyPasswordKey }}
{{- end }}
{{- end }}
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
          name: {{ .name }}
          items: [{key: {{ .key }}, path: password}]
      {{- end }}
      {{- end }}
      {{- with $security.caSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name }}
          items: [{key: {{ .key }}, path: ca.crt}]
      {{- end }}
      {{- end }}
      {{- with $security.certificateSecret }}
      {{- if .name }}
      - secret:
          name: {{ .name }}
          items: [{key: {{ .certificateKey }}, path: tls.crt}, {key: {{ .keyKey }}, path: tls.key}]
      {{- end }}
      {{- end }}
{{- end -}}

{{/* Environment, mounts and volumes that a worker and a replay have in common. */}}
{{- define "stillwatch.scoringEnv" -}}
{{ include "stillwatch.connectionEnv" . }}
- name: STILLWATCH_CONFIG
  value: /etc/stillwatch/config/stillwatch.toml
{{- if or .Values.baseline.content .Values.baseline.configMap }}
- name: STILLWATCH_BASELINE_FILE
  value: /etc/stillwatch/baseline/{{ .Values.baseline.key }}
{{- end }}
{{- with .Values.accountHashKeySecret }}
{{- if .name }}
- name: STILLWATCH_ACCOUNT_HASH_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .name }}
      key: {{ .key }}
{{- end }}
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
    name: {{ $config }}
{{- if .Values.baseline.content }}
- name: baseline
  configMap:
    name: {{ $config }}-baseline
{{- else if .Values.baseline.configMap }}
- name: baseline
  configMap:
    name: {{ .Values.baseline.configMap }}
{{- end }}
{{- if include "stillwatch.credentials" . }}
{{ include "stillwatch.credentialsVolume" . }}
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
  name: {{ $config }}
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
  name: {{ $config }}-baseline
  labels:
    {{- include "stillwatch.labels" . | nindent 4 }}
data:
  {{ .Values.baseline.key }}: {{ .Values.baseline.content | quote }}
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

{{- define "stillwatch.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "stillwatch.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What a pod of ours may reach: name servers and brokers. */}}
{{- define "stillwatch.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
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
