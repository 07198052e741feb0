{{- define "vernier.labels" -}}
app.kubernetes.io/name: vernier
{{- end }}

{{/* The daemon's configuration: the chart's ports and shutdown under the values' config. */}}
{{- define "vernier.config" -}}
{{- $fixed := dict "listen" "0.0.0.0:50051" "health" "0.0.0.0:50052" "http" "0.0.0.0:9090" "admin" "127.0.0.1:50053" "drain_seconds" .Values.shutdown.drainSeconds -}}
{{- if .Values.tls.secret -}}
{{- $_ := set $fixed "tls" (dict "certificate" "/etc/vernier-tls/tls.crt" "key" "/etc/vernier-tls/tls.key" "client_ca" "/etc/vernier-tls/ca.crt") -}}
{{- end -}}
{{- toYaml (merge (dict) $fixed .Values.config) -}}
{{- end }}
