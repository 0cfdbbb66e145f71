{{/* What watches: labels, and what the chart makes of an alarm of files/rules.yaml. */}}

{{/* Labels of what others take up by them: (list . labels). */}}
{{- define "stillwatch.labelsToFind" -}}
{{- mergeOverwrite (include "stillwatch.labels" (index . 0) | fromYaml) (index . 1 | default dict) | toYaml -}}
{{- end -}}

{{/* Hours between two canaries, from the schedule where it is one of the usual kinds. */}}
{{- define "stillwatch.canaryHours" -}}
{{- $schedule := .Values.canary.schedule -}}
{{- $everyHours := "^[0-9]+ +[*]/([0-9]+) +[*] +[*] +[*]$" -}}
{{- if .Values.monitoring.prometheusRule.canaryHours -}}
{{ int .Values.monitoring.prometheusRule.canaryHours }}
{{- else if regexMatch "^(@daily|[0-9]+ +[0-9]+ +[*] +[*] +[*])$" $schedule -}}
24
{{- else if regexMatch "^(@hourly|[0-9]+ +[*] +[*] +[*] +[*])$" $schedule -}}
1
{{- else if eq "@weekly" $schedule -}}
168
{{- else if regexMatch $everyHours $schedule -}}
{{ regexReplaceAll $everyHours $schedule "${1}" }}
{{- else -}}
{{- fail (printf "\n\nmonitoring.prometheusRule.canaryHours is needed: canary.schedule=%q does not tell how many hours there are between two canaries at most, from which the alarms know when one is late\n" $schedule) -}}
{{- end -}}
{{- end -}}

{{/* Whether there is anything for an alarm to look at: (list . "name"). Whoever has the canary's prefix is to be noticed
though no canary is sent from here. */}}
{{- define "stillwatch.isWatched" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if or (not (hasPrefix "StillwatchCanary" $name)) $root.Values.canary.enabled -}}true
{{- else if and (eq $name "StillwatchCanaryTooMany") (include "stillwatch.setting" (list $root "canary_prefix" "")) -}}true
{{- end -}}
{{- end -}}

{{/* The number that an alarm compares with: (list . "name"), nothing when it is that of the file. */}}
{{- define "stillwatch.threshold" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $given := get ($root.Values.monitoring.prometheusRule.thresholds | default dict) $name -}}
{{- if and (eq $name "StillwatchCanaryTooMany") (not $given) -}}
{{- $hours := 0 -}}
{{- if and $root.Values.canary.enabled $root.Values.monitoring.prometheusRule.canaryHours -}}
{{- fail (printf "\n\nmonitoring.prometheusRule.thresholds.StillwatchCanaryTooMany is needed with canaryHours=%v: the longest wait between two canaries does not tell how many are sent a day. Give two more than canary.schedule=%q sends on its busiest day\n" $root.Values.monitoring.prometheusRule.canaryHours $root.Values.canary.schedule) -}}
{{- end -}}
{{- if $root.Values.canary.enabled -}}{{- $hours = include "stillwatch.canaryHours" $root | int -}}{{- end -}}
{{- /* Two more a day than the schedule sends. */ -}}
{{- if $hours -}}{{ add 2 (div (add 23 $hours) $hours) }}{{- else -}}2{{- end -}}
{{- else -}}
{{ $given }}
{{- end -}}
{{- end -}}

{{/* An alarm, for this release: (list . alarm). */}}
{{- define "stillwatch.alarm" -}}
{{- $root := index . 0 -}}
{{- $alarm := deepCopy (index . 1) -}}
{{- $given := $root.Values.monitoring.prometheusRule -}}
{{- $name := include "stillwatch.fullname" $root -}}
{{- $namespace := printf "namespace=%q" $root.Release.Namespace -}}
{{- /* What the operator calls the job: of a PodMonitor NAMESPACE/NAME, of a ServiceMonitor the Service. */ -}}
{{- $ours := $namespace -}}
{{- if or $root.Values.monitoring.podMonitor.enabled $root.Values.monitoring.serviceMonitor.enabled -}}
{{- $ours = printf "%s, job=~\"(%s/)?%s\"" $namespace $root.Release.Namespace $name -}}
{{- end -}}
{{- /* Numbers first: names may hold some too. */ -}}
{{- $expr := $alarm.expr -}}
{{- with include "stillwatch.threshold" (list $root $alarm.alert) -}}
{{- $expr = regexReplaceAll "> \\([0-9.]+\\)" $expr (printf "> (%s)" .) -}}
{{- end -}}
{{- if has $alarm.alert (list "StillwatchCanarySilent" "StillwatchCanaryFails") -}}
{{- $minutes := add 30 (mul 60 (include "stillwatch.canaryHours" $root | int)) | toString -}}
{{- $expr = replace "390" $minutes $expr -}}
{{- if $alarm.for -}}{{- $_ := set $alarm "for" (replace "390" $minutes $alarm.for) -}}{{- end -}}
{{- end -}}
{{- $expr = $expr | replace "job=~\".*\"" $ours | replace "namespace=~\".*\"" $namespace -}}
{{- range list "statefulset=\"" "deployment=\"" "pod=~\"" "job_name=~\"" -}}
{{- $expr = replace (printf "%sstillwatch" .) (printf "%s%s" . $name) $expr -}}
{{- end -}}
{{- $_ := set $alarm "expr" $expr -}}
{{- /* Not every alarm has them from its metrics, and those of two releases are to be told apart. */ -}}
{{- $own := dict "namespace" $root.Release.Namespace "service" $name -}}
{{- $_ := set $alarm "labels" (merge (deepCopy ($given.extraLabels | default dict)) $own $alarm.labels) -}}
{{- $runbook := $alarm.annotations.runbook_url -}}
{{- if $given.runbooks -}}
{{- $_ := set $alarm.annotations "runbook_url" (replace "deploy/README.md" $given.runbooks $runbook) -}}
{{- else -}}
{{- /* A link that leads nowhere is none. */ -}}
{{- $_ := unset $alarm.annotations "runbook_url" -}}
{{- $_ := set $alarm.annotations "runbook" $runbook -}}
{{- end -}}
{{- toYaml $alarm -}}
{{- end -}}
