-- Sends each study with CT slices to the modality "lnq" once it is stable, and again only where slices were added.
-- The results that come back make the study stable once more, and add no CT slices. Where the node is away the job fails:
-- it stands among Orthanc's jobs, and the study is sent when it is stable again.

local SENT = '4242'  -- number of a metadata entry of our own: how many CT slices were sent
local running = {}   -- by job: the study, and how many slices

function OnStableStudy(study, tags, metadata)
   local count = 0
   for _, series in pairs(ParseJson(RestApiGet('/studies/' .. study .. '/series'))) do
      if series['MainDicomTags']['Modality'] == 'CT' then
         count = count + #series['Instances']
      end
   end
   if count > 0 and metadata[SENT] ~= tostring(count) then
      local wanted = DumpJson({Resources = {study}, Asynchronous = true}, true)
      running[ParseJson(RestApiPost('/modalities/lnq/store', wanted))['ID']] = {study = study, count = count}
   end
end

function OnJobSuccess(job)
   if running[job] then
      RestApiPut('/studies/' .. running[job].study .. '/metadata/' .. SENT, tostring(running[job].count))
      running[job] = nil
   end
end
